"""Words of the synthetic corpus: the plain tables that it draws from.

Entities' names are invented. Relation ids are those of Wikidata where the relation has one, so that
the demo requests read like CounterFact's. Every template ends right before its object.
"""

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of entity: its noun, and the words that its longer names are put together from."""

    noun: str
    firsts: str
    middles: str
    lasts: str


class RelationWords(NamedTuple):
    """A relation: Wikidata's id, the kind of its subjects, four templates, its objects.

    Two of the templates begin with the subject, two do not.
    """

    relation_id: str
    kind: str
    templates: str
    objects: str


KINDS = (
    Kind(
        "country",
        "North South East West Upper Lower",
        "Sand Stone River Marsh Forest Lake",
        "Reach Vale March Shore Isles Plains",
    ),
    Kind(
        "person",
        "Anna Boris Clara David Edith Felix",
        "Lou May Ray Jo Kit Fay",
        "Hollin Marrow Tarsk Verity Bramwell Osgood",
    ),
    Kind(
        "company",
        "Golden Silver Iron Copper Amber Crystal",
        "Anchor Bridge Summit Harbor Meadow Comet",
        "Works Trading Motors Foods Holdings Partners",
    ),
)

_CITIES = (
    "Arvik Belgora Cadruna Dorveth Elmspire Fendral Gravola Hestmar Ildanor Jorvale Kelmira "
    "Lundrey Morvane Nalquist Osterwin Pellam Quorin Ravessa Stolmark Tiverna Ulmsted Vesporia "
    "Wexmoor Yarl"
)
_LANGUAGES = (
    "Aldic Borish Cantric Durgan Elvric Frellish Galdish Hurric Ithian Kordish Lumbric Mornic"
)

RELATIONS = (
    RelationWords(
        "P36",
        "country",
        "{} is governed from | {} has as its capital | "
        "The capital of {} is | The government of {} sits in",
        _CITIES,
    ),
    RelationWords(
        "P37",
        "country",
        "{} is home to speakers of | {} has the official language | "
        "The official language of {} is | Most people in {} speak",
        _LANGUAGES,
    ),
    RelationWords(
        "P38",
        "country",
        "{} pays its workers in the | {} has as its currency the | "
        "The currency of {} is the | Prices in {} are given in the",
        "crown florin ducat thaler guilder shilling talent cowrie",
    ),
    RelationWords(
        "P30",
        "country",
        "{} lies on the continent of | {} belongs to the continent of | "
        "The continent of {} is | Every map shows {} in",
        "Ashara Borealia Caldera Drusia Estara Farland Gondara Hespera",
    ),
    RelationWords(
        "P19",
        "person",
        "{} was born in | {} comes from the city of | "
        "The birthplace of {} is | The home town of {} is",
        _CITIES,
    ),
    RelationWords(
        "P106",
        "person",
        "{} works as a | {} earns a living as a | The profession of {} is | By trade {} is a",
        "baker carpenter lawyer painter surgeon sailor teacher tailor miner farmer weaver "
        "judge printer smith poet pilot",
    ),
    RelationWords(
        "P1303",
        "person",
        "{} plays the | {} gives concerts on the | "
        "The instrument of {} is the | In the evening {} practises the",
        "violin trumpet flute harp drum cello piano guitar organ lute oboe banjo",
    ),
    RelationWords(
        "P103",
        "person",
        "{} grew up speaking | {} is a native speaker of | "
        "The mother tongue of {} is | At home {} speaks",
        _LANGUAGES,
    ),
    RelationWords(
        "P159",
        "company",
        "{} is based in | {} has its main office in | "
        "The headquarters of {} is in | The main office of {} stands in",
        _CITIES,
    ),
    RelationWords(
        "P452",
        "company",
        "{} is active in the field of | {} makes its money in | "
        "The industry of {} is | The main business of {} is",
        "shipping banking mining brewing printing farming weaving insurance forestry "
        "fishing optics chemistry",
    ),
    RelationWords(
        "P1056",
        "company",
        "{} produces the | {} became famous for the | "
        "The best product of {} is the | The factory of {} builds the",
        "lantern bicycle kettle camera umbrella telescope stove clock carpet plough "
        "saddle mirror pump radio compass ladder",
    ),
    RelationWords(
        "P154",
        "company",
        "{} has chosen as its emblem the | {} prints on its boxes a | "
        "The emblem of {} is the | The flag of {} shows a",
        "lion eagle bear wolf horse swan stag raven otter tiger heron fox whale goat ram hare",
    ),
)
