"""Files from elsewhere: data sets and weights, resumable, each checked against a digest kept here."""
