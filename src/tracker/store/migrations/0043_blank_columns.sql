-- Texts that most clicks lack: a COPY to the table leaves out those that a whole batch lacks.
ALTER TABLE click
    ALTER aff_sub SET DEFAULT '', ALTER aff_sub2 SET DEFAULT '', ALTER aff_sub3 SET DEFAULT '',
    ALTER aff_sub4 SET DEFAULT '', ALTER aff_sub5 SET DEFAULT '', ALTER aff_sub6 SET DEFAULT '',
    ALTER aff_sub7 SET DEFAULT '', ALTER aff_sub8 SET DEFAULT '', ALTER aff_sub9 SET DEFAULT '',
    ALTER aff_sub10 SET DEFAULT '', ALTER aff_sub11 SET DEFAULT '', ALTER aff_sub12 SET DEFAULT '',
    ALTER aff_sub13 SET DEFAULT '', ALTER aff_sub14 SET DEFAULT '', ALTER aff_sub15 SET DEFAULT '',
    ALTER aff_sub16 SET DEFAULT '', ALTER aff_sub17 SET DEFAULT '', ALTER aff_sub18 SET DEFAULT '',
    ALTER aff_sub19 SET DEFAULT '', ALTER aff_sub20 SET DEFAULT '', ALTER adv_sub SET DEFAULT '',
    ALTER adv_sub2 SET DEFAULT '', ALTER adv_sub3 SET DEFAULT '', ALTER adv_sub4 SET DEFAULT '',
    ALTER adv_sub5 SET DEFAULT '', ALTER external_id SET DEFAULT '', ALTER gaid SET DEFAULT '',
    ALTER idfa SET DEFAULT '', ALTER client_hints SET DEFAULT '', ALTER referrer SET DEFAULT '',
    ALTER fetch_dest SET DEFAULT '', ALTER fetch_user SET DEFAULT '';
