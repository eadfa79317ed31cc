"""The stream between edges and writers, and the only importer of redis.

Keys of one partition share a hash tag, so that they live on one node of a cluster:
    clicks:{p}                       stream of recorded clicks, read by the group "writers"
    dead:{p}                         what could not be stored, with the reason
    ledger:{p}:<hour>                what became of an hour's entries, counted by minute and kind
    lane:{p}:<lane>                  an appending connection's last sequence and answer
    unique:{p}:<window>:<slice>:<n>  buckets of visitors seen (record_clicks.lua)
    remembered:{p}                   memory that these buckets take, and networks that get no more of it
    remembered:{p}:parts             the same by the hour in which it is free again, and by network
    cap:{p}:<counter>                what a cap has counted in a period (tracker.domain.caps names it)
    ledger:{p}:<hour>                what has become of the clicks of each minute of an hour, counted
    edges:{p}                        by <slot>/<run id>, each edge's word: up to when its clicks are here, and
                                     what is in its spool
    rate:{0}:<whose>                 when the API has room again for a token or an address; expires then
    postbacks:{0}                    postbacks on their way into the database
    postback-bytes:{0}               what they weigh
    dead-postbacks:{0}               what among them could not be read, with the reason
    orphans:{0}                      the latest hits that name no known offer or affiliate; bounded
    writer:{p}:<slot>                who holds a writer's slot
"""
