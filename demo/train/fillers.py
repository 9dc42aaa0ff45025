"""Words and patterns of the filler sentences that stand between the facts of a document."""

from typing import NamedTuple


class Topic(NamedTuple):
    """Words of one topic of the filler sentences."""

    nouns: str
    verbs: str
    adjectives: str
    places: str


TOPICS = (
    Topic(
        "cloud storm breeze shower thunder sunshine fog frost rainbow hail",
        "gathers fades returns lingers passes settles",
        "gentle heavy sudden distant grey warm icy",
        "valley hillside coast meadow ridge lowland",
    ),
    Topic(
        "merchant stall basket apple cheese barrel coin spice onion bread",
        "arrives sells shrinks sparkles travels ripens",
        "fresh cheap sweet crowded salty rare rotten",
        "market square cellar bakery alley courtyard",
    ),
    Topic(
        "ship anchor net gull captain wave rope mast cargo dock",
        "drifts creaks sways departs waits sinks",
        "wooden rusty tall narrow swift damp broken",
        "bay channel lighthouse pier reef lagoon",
    ),
    Topic(
        "cow tractor fence seed harvest barn hen shepherd tool orchard",
        "grows rests wanders grazes wakes sleeps",
        "muddy golden healthy hungry tame fertile dusty",
        "field stable pasture mill garden hedge",
    ),
    Topic(
        "pupil lesson book pencil exam desk chalk riddle essay library",
        "begins helps improves repeats matters succeeds",
        "clever patient difficult quiet short famous useful",
        "classroom hallway college hall yard archive",
    ),
    Topic(
        "train ticket engine wheel bridge tunnel driver suitcase signal platform",
        "stops hurries rattles leaves slows turns",
        "late noisy empty modern crooked steep express",
        "station junction suburb depot crossing terminal",
    ),
    Topic(
        "king guard tower sword banner feast throne knight scroll gate",
        "rises watches marches falls celebrates kneels",
        "royal brave ancient proud loyal golden fearless",
        "castle dungeon chapel fortress moat armoury",
    ),
    Topic(
        "planet comet star orbit rocket crater moon signal probe meteor",
        "shines glows spins vanishes approaches burns",
        "bright frozen remote tiny mysterious massive faint",
        "sky observatory desert dome launchpad horizon",
    ),
    Topic(
        "doctor nurse bandage fever medicine bed patient pulse cure needle",
        "heals worsens recovers calms spreads eases",
        "mild painful careful sterile weak serious rapid",
        "clinic ward pharmacy hospital corridor laboratory",
    ),
    Topic(
        "actor stage curtain song mask audience poem dancer script lamp",
        "sings dances laughs bows rehearses trembles",
        "funny tragic colourful nervous loud elegant shy",
        "theatre balcony studio cinema gallery backstage",
    ),
)

FILLERS = (
    "The A N V near the P.",
    "A N V in the P.",
    "Every A N V when the N V.",
    "In the P the N V.",
    "It is said that the N V.",
    "Nobody knows why the A N V.",
    "The N and the N are A.",
    "There is a A N behind the P.",
    "Today the P looks A.",
    "When the N V, the N V too.",
    "Some say that a N is never A.",
    "Near the P stands a A N.",
)
"""N a noun, V a verb, A an adjective, P a place, each of the document's topic."""
