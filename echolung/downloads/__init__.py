"""Files from elsewhere: datasets and weights, resumable, each checked against a digest kept here."""
