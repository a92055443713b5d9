"""What several stages share; none of these files is a stage.

annotations         what all stages that give spans scores have in common
tables              helpers on the tables of documents and spans
joined_scores       the scores of several scorers, for the spans of a unit
measuring           the values that the rules of a scheme need, a value for each span
selection           the documents that are trained on
training_shards     the common half of text shards and token shards
"""
