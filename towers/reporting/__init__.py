"""The evaluation report: what the recommender's lists are worth, for whom, from where, as one page and as JSON."""
