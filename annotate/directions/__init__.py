"""Conditions as directions in a model's hidden states: found, measured against null hypotheses, steered by, recombined.

spans        texts whose spans have tags, from a run
rows         their tokens, with tags or without
states       hidden states of spans, by layer
direction    differences of means, and their file
steering     adding directions to hidden states
divergence   how far a model is from itself under tags
measures     cosines, steering equivalence, additivity, against chance
readings     what does not depend on a tag, read once
report       what was measured, as values and pictures
study        all of it, for one model and one run
"""

from annotate.directions.direction import Direction, load_direction
from annotate.directions.report import DirectionsReport
from annotate.directions.steering import steered
from annotate.directions.study import find_directions

__all__ = ["Direction", "DirectionsReport", "find_directions", "load_direction", "steered"]
