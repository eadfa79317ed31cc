"""Countries: the codes of ISO 3166-1 (and XK), and the English names by which people write them.

Codes and names are those of ISO 3166-1 as of 2024-02-29 (N1127), by Debian's iso-codes. The usual names of
the time zone database's iso3166.tab are added. ISO has no code for Kosovo. XK is in its user-assigned range,
and geo databases and the European Commission use it.
"""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple

ALIASES = {"UK": "GB", "EL": "GR"}
"""Codes for countries that are not in ISO 3166-1. ISO 3166-1 reserves both, so no other country has them."""

# Names that do not identify one country, and the countries that they may mean.
_SEVERAL = {
    "Congo": "CD (Democratic Republic of the Congo) or CG (Republic of the Congo)",
    "Georgia": "GE (the country) or US (the state, which is the region US-GA)",
    "Republic of China": "CN (China) or TW (Taiwan)",
    "Korea": "KR (South Korea) or KP (North Korea)",
    "Saint Martin": "MF (the French part) or SX (the Dutch part)",
    "Virgin Islands": "VG (the British ones) or VI (those of the US)",
}
_LONGEST = 80  # longest name for which similar names are searched
_SMALL_WORDS = frozenset({"and", "of", "the"})
_WORD = re.compile(r"[^\W_]+")


class Countries(NamedTuple):
    """All countries, by their spellings."""

    names: dict[str, str]  # by code
    codes: dict[str, str]  # by alpha-3 code, and by the key of a name


@cache
def known() -> Countries:
    names: dict[str, str] = {}
    codes: dict[str, str] = {}
    for line in _TABLE.splitlines():
        code, alpha_3, written = line.split(" ", 2)
        names[code], *others = written.split(" | ")
        codes[alpha_3] = code
        codes |= {_key(name): code for name in (names[code], *others)}
    for name in _SEVERAL:
        codes.pop(_key(name), None)
    return Countries(names, codes)


def candidates(name: str) -> str:
    """The countries that an ambiguous name may mean, or ""."""
    return next((meant for several, meant in _SEVERAL.items() if _key(several) == _key(name)), "")


def named(name: str) -> str | None:
    """The code of the country with an English name. Case, accents and word order do not matter."""
    return known().codes.get(_key(name))


def nearest(name: str) -> str | None:
    """The code of the country with a similar name."""
    close = get_close_matches(_key(name[:_LONGEST]), known().codes, 1, 0.8)
    return known().codes[close[0]] if close else None


def _key(name: str) -> str:
    """The part that all spellings of a name share: "Korea (Rep. of)", "Republic of Korea"."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    words = _WORD.findall(plain.replace(".", "").replace("'", "").replace("\u2019", ""))
    return " ".join(sorted("saint" if word == "st" else word for word in words if word not in _SMALL_WORDS))


_TABLE = """\
AD AND Andorra | Principality of Andorra
AE ARE United Arab Emirates | UAE
AF AFG Afghanistan | Islamic Republic of Afghanistan
AG ATG Antigua and Barbuda | Antigua
AI AIA Anguilla
AL ALB Albania | Republic of Albania
AM ARM Armenia | Republic of Armenia
AO AGO Angola | Republic of Angola
AQ ATA Antarctica
AR ARG Argentina | Argentine Republic
AS ASM American Samoa
AT AUT Austria | Republic of Austria
AU AUS Australia
AW ABW Aruba
AX ALA Åland Islands | Aland
AZ AZE Azerbaijan | Republic of Azerbaijan
BA BIH Bosnia and Herzegovina | Republic of Bosnia and Herzegovina | Bosnia
BB BRB Barbados
BD BGD Bangladesh | People's Republic of Bangladesh
BE BEL Belgium | Kingdom of Belgium
BF BFA Burkina Faso
BG BGR Bulgaria | Republic of Bulgaria
BH BHR Bahrain | Kingdom of Bahrain
BI BDI Burundi | Republic of Burundi
BJ BEN Benin | Republic of Benin
BL BLM Saint Barthélemy
BM BMU Bermuda
BN BRN Brunei | Brunei Darussalam
BO BOL Bolivia | Bolivia, Plurinational State of
BQ BES Bonaire, Sint Eustatius and Saba | Caribbean NL | Caribbean Netherlands | Bonaire
BR BRA Brazil | Federative Republic of Brazil
BS BHS Bahamas | Commonwealth of the Bahamas
BT BTN Bhutan | Kingdom of Bhutan
BV BVT Bouvet Island
BW BWA Botswana | Republic of Botswana
BY BLR Belarus | Republic of Belarus | Byelorussia | Belorussia
BZ BLZ Belize
CA CAN Canada
CC CCK Cocos Islands | Cocos (Keeling) Islands | Keeling Islands
CD COD Democratic Republic of the Congo | Congo (Dem. Rep.) | Congo-Kinshasa | DR Congo | DRC | Zaire
CF CAF Central African Republic | Central African Rep.
CG COG Republic of the Congo | Congo | Congo (Rep.) | Congo-Brazzaville
CH CHE Switzerland | Swiss Confederation
CI CIV Côte d'Ivoire | Republic of Côte d'Ivoire | Ivory Coast
CK COK Cook Islands
CL CHL Chile | Republic of Chile
CM CMR Cameroon | Republic of Cameroon
CN CHN China | People's Republic of China
CO COL Colombia | Republic of Colombia
CR CRI Costa Rica | Republic of Costa Rica
CU CUB Cuba | Republic of Cuba
CV CPV Cabo Verde | Republic of Cabo Verde | Cape Verde
CW CUW Curaçao
CX CXR Christmas Island
CY CYP Cyprus | Republic of Cyprus
CZ CZE Czechia | Czech Republic
DE DEU Germany | Federal Republic of Germany
DJ DJI Djibouti | Republic of Djibouti
DK DNK Denmark | Kingdom of Denmark
DM DMA Dominica | Commonwealth of Dominica
DO DOM Dominican Republic
DZ DZA Algeria | People's Democratic Republic of Algeria
EC ECU Ecuador | Republic of Ecuador
EE EST Estonia | Republic of Estonia
EG EGY Egypt | Arab Republic of Egypt
EH ESH Western Sahara
ER ERI Eritrea | State of Eritrea
ES ESP Spain | Kingdom of Spain
ET ETH Ethiopia | Federal Democratic Republic of Ethiopia
FI FIN Finland | Republic of Finland
FJ FJI Fiji | Republic of Fiji
FK FLK Falkland Islands | Falkland Islands (Malvinas)
FM FSM Micronesia | Micronesia, Federated States of
FO FRO Faroe Islands | Faeroe Islands
FR FRA France | French Republic
GA GAB Gabon | Gabonese Republic
GB GBR United Kingdom | United Kingdom of Great Britain and Northern Ireland | Great Britain | Britain
GD GRD Grenada
GE GEO Georgia | Republic of Georgia
GF GUF French Guiana
GG GGY Guernsey
GH GHA Ghana | Republic of Ghana
GI GIB Gibraltar
GL GRL Greenland
GM GMB Gambia | Republic of the Gambia
GN GIN Guinea | Republic of Guinea
GP GLP Guadeloupe
GQ GNQ Equatorial Guinea | Republic of Equatorial Guinea
GR GRC Greece | Hellenic Republic
GS SGS South Georgia and the South Sandwich Islands | South Georgia
GT GTM Guatemala | Republic of Guatemala
GU GUM Guam
GW GNB Guinea-Bissau | Republic of Guinea-Bissau
GY GUY Guyana | Republic of Guyana
HK HKG Hong Kong | Hong Kong Special Administrative Region of China | Hong Kong SAR | Hong Kong SAR China
HM HMD Heard Island and McDonald Islands | Heard and McDonald Islands
HN HND Honduras | Republic of Honduras
HR HRV Croatia | Republic of Croatia
HT HTI Haiti | Republic of Haiti
HU HUN Hungary
ID IDN Indonesia | Republic of Indonesia
IE IRL Ireland | Republic of Ireland | Eire
IL ISR Israel | State of Israel
IM IMN Isle of Man
IN IND India | Republic of India
IO IOT British Indian Ocean Territory
IQ IRQ Iraq | Republic of Iraq
IR IRN Iran | Iran, Islamic Republic of
IS ISL Iceland | Republic of Iceland
IT ITA Italy | Italian Republic
JE JEY Jersey
JM JAM Jamaica
JO JOR Jordan | Hashemite Kingdom of Jordan
JP JPN Japan
KE KEN Kenya | Republic of Kenya
KG KGZ Kyrgyzstan | Kyrgyz Republic | Kirgizstan
KH KHM Cambodia | Kingdom of Cambodia
KI KIR Kiribati | Republic of Kiribati
KM COM Comoros | Union of the Comoros
KN KNA Saint Kitts and Nevis | Saint Kitts
KP PRK North Korea | Korea, Democratic People's Republic of
KR KOR South Korea | Korea, Republic of
KW KWT Kuwait | State of Kuwait
KY CYM Cayman Islands
KZ KAZ Kazakhstan | Republic of Kazakhstan
LA LAO Laos | Lao People's Democratic Republic | Lao PDR
LB LBN Lebanon | Lebanese Republic
LC LCA Saint Lucia
LI LIE Liechtenstein | Principality of Liechtenstein
LK LKA Sri Lanka | Democratic Socialist Republic of Sri Lanka
LR LBR Liberia | Republic of Liberia
LS LSO Lesotho | Kingdom of Lesotho
LT LTU Lithuania | Republic of Lithuania
LU LUX Luxembourg | Grand Duchy of Luxembourg
LV LVA Latvia | Republic of Latvia
LY LBY Libya | Libyan Arab Jamahiriya
MA MAR Morocco | Kingdom of Morocco
MC MCO Monaco | Principality of Monaco
MD MDA Moldova | Moldova, Republic of
ME MNE Montenegro
MF MAF Saint Martin (French part) | St Martin (French)
MG MDG Madagascar | Republic of Madagascar
MH MHL Marshall Islands | Republic of the Marshall Islands
MK MKD North Macedonia | Republic of North Macedonia | Macedonia
ML MLI Mali | Republic of Mali
MM MMR Myanmar | Republic of Myanmar | Myanmar (Burma) | Burma
MN MNG Mongolia
MO MAC Macao | Macao Special Administrative Region of China | Macau
MP MNP Northern Mariana Islands | Commonwealth of the Northern Mariana Islands
MQ MTQ Martinique
MR MRT Mauritania | Islamic Republic of Mauritania
MS MSR Montserrat
MT MLT Malta | Republic of Malta
MU MUS Mauritius | Republic of Mauritius
MV MDV Maldives | Republic of Maldives
MW MWI Malawi | Republic of Malawi
MX MEX Mexico | United Mexican States
MY MYS Malaysia
MZ MOZ Mozambique | Republic of Mozambique
NA NAM Namibia | Republic of Namibia
NC NCL New Caledonia
NE NER Niger | Republic of the Niger
NF NFK Norfolk Island
NG NGA Nigeria | Federal Republic of Nigeria
NI NIC Nicaragua | Republic of Nicaragua
NL NLD Netherlands | Kingdom of the Netherlands | Holland
NO NOR Norway | Kingdom of Norway
NP NPL Nepal | Federal Democratic Republic of Nepal
NR NRU Nauru | Republic of Nauru
NU NIU Niue
NZ NZL New Zealand
OM OMN Oman | Sultanate of Oman
PA PAN Panama | Republic of Panama
PE PER Peru | Republic of Peru
PF PYF French Polynesia
PG PNG Papua New Guinea | Independent State of Papua New Guinea
PH PHL Philippines | Republic of the Philippines
PK PAK Pakistan | Islamic Republic of Pakistan
PL POL Poland | Republic of Poland
PM SPM Saint Pierre and Miquelon
PN PCN Pitcairn | Pitcairn Islands
PR PRI Puerto Rico
PS PSE Palestine | Palestine, State of | Palestinian Territories | Palestinian Territory
PT PRT Portugal | Portuguese Republic
PW PLW Palau | Republic of Palau
PY PRY Paraguay | Republic of Paraguay
QA QAT Qatar | State of Qatar
RE REU Réunion
RO ROU Romania
RS SRB Serbia | Republic of Serbia
RU RUS Russia | Russian Federation
RW RWA Rwanda | Rwandese Republic
SA SAU Saudi Arabia | Kingdom of Saudi Arabia
SB SLB Solomon Islands
SC SYC Seychelles | Republic of Seychelles
SD SDN Sudan | Republic of the Sudan
SE SWE Sweden | Kingdom of Sweden
SG SGP Singapore | Republic of Singapore
SH SHN Saint Helena, Ascension and Tristan da Cunha | St Helena
SI SVN Slovenia | Republic of Slovenia
SJ SJM Svalbard and Jan Mayen
SK SVK Slovakia | Slovak Republic
SL SLE Sierra Leone | Republic of Sierra Leone
SM SMR San Marino | Republic of San Marino
SN SEN Senegal | Republic of Senegal
SO SOM Somalia | Federal Republic of Somalia
SR SUR Suriname | Republic of Suriname
SS SSD South Sudan | Republic of South Sudan
ST STP Sao Tome and Principe | Democratic Republic of Sao Tome and Principe | Sao Tome
SV SLV El Salvador | Republic of El Salvador
SX SXM Sint Maarten (Dutch part) | St Maarten (Dutch) | Sint Maarten
SY SYR Syria | Syrian Arab Republic
SZ SWZ Eswatini | Kingdom of Eswatini | Eswatini (Swaziland) | Swaziland
TC TCA Turks and Caicos Islands | Turks & Caicos Is | Turks and Caicos
TD TCD Chad | Republic of Chad
TF ATF French Southern Territories | French S. Terr.
TG TGO Togo | Togolese Republic
TH THA Thailand | Kingdom of Thailand
TJ TJK Tajikistan | Republic of Tajikistan
TK TKL Tokelau
TL TLS Timor-Leste | Democratic Republic of Timor-Leste | East Timor
TM TKM Turkmenistan
TN TUN Tunisia | Republic of Tunisia
TO TON Tonga | Kingdom of Tonga
TR TUR Turkey | Türkiye | Republic of Türkiye
TT TTO Trinidad and Tobago | Republic of Trinidad and Tobago | Trinidad
TV TUV Tuvalu
TW TWN Taiwan | Taiwan, Province of China
TZ TZA Tanzania | Tanzania, United Republic of
UA UKR Ukraine
UG UGA Uganda | Republic of Uganda
UM UMI United States Minor Outlying Islands | US minor outlying islands | US Outlying Islands
US USA United States | United States of America
UY URY Uruguay | Eastern Republic of Uruguay
UZ UZB Uzbekistan | Republic of Uzbekistan
VA VAT Vatican City | Holy See (Vatican City State) | Vatican | Holy See
VC VCT Saint Vincent and the Grenadines | St Vincent
VE VEN Venezuela | Venezuela, Bolivarian Republic of
VG VGB British Virgin Islands | Virgin Islands (UK)
VI VIR US Virgin Islands | Virgin Islands of the United States
VN VNM Vietnam | Viet Nam | Socialist Republic of Viet Nam
VU VUT Vanuatu | Republic of Vanuatu
WF WLF Wallis and Futuna
WS WSM Samoa | Independent State of Samoa | Samoa (western)
XK XKX Kosovo | Republic of Kosovo
YE YEM Yemen | Republic of Yemen
YT MYT Mayotte
ZA ZAF South Africa | Republic of South Africa
ZM ZMB Zambia | Republic of Zambia
ZW ZWE Zimbabwe | Republic of Zimbabwe
"""
