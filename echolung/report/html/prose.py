"""What the sections of the page are called, and how each is to be read."""

TITLES = {
    "folds": "Fold by fold",
    "confusion": "Confusion matrices",
    "scatter": "Prediction against truth",
    "roc": "ROC and precision-recall",
    "reliability": "Reliability",
    "training": "Training curves",
    "twins": "Pretrained against random weights",
    "inner": "Validation against test",
    "groups": "By source, patient and subgroup",
    "mistakes": "Worst mistakes",
    "map": "Map of embeddings",
    "attention": "Attention over the clip",
    "samples": "What the videos look like",
    "study": "The search",
    "left-out": "What is left out",
    "protocol": "Protocol",
    "rerun": "To rerun it",
}

READ = {
    "folds": """Each row was scored by a probe that has not seen its videos. Folds share training videos, so their
standard deviation is no standard error; with few patients in a fold, differences of ten points between folds are
ordinary.""",
    "one split": """One division into training, validation and test part: the test part was scored once. There is no
spread over folds, and another division would give another number.""",
    "transfer": """The probe learnt from one dataset and predicted the other once. There are no folds: nothing here says how
much another choice of training patients would change.""",
    "reported folds": """Each row is scored by the setting and epoch that did best on that very row. Read it as the
best of many looks, not as what new videos would give.""",
    "confusion": """Rows are what videos are, columns what they were taken for: counts, then the share of each row. A
video counts for the class of highest probability. Videos of one patient are not independent of each other.""",
    "scatter": """Each point is a video; on the line prediction and truth agree. Predictions drawn in towards the mean
are what little signal looks like. Two quantities are called R²: 1 − SSE/SST, which punishes a wrong scale, and the
square of Pearson's r, which does not; whoever compares papers must know which. Positive is the true number strictly below
the threshold.""",
    "roc": """One class against the rest. Curves are drawn within each fold, since scores of different folds' probes
are on different scales; the band shows how far folds differ. A fold that lacks a class has no curve for it.""",
    "roc once": """One class against the rest, of the videos that were scored once: there are no folds to differ.""",
    "reliability": """Of the videos that were given 80 %, are 80 % right? On the diagonal they are. Bins of few videos
jump.""",
    "reliability and temperature": """Of the videos that were given 80 %, are 80 % right? On the diagonal they are. Bins
of few videos jump. The temperature of each fold was fitted on inner predictions of its training part, so it has not
seen the videos shown; it changes how sure a prediction sounds, never which class it names.""",
    "training": """Held-out loss and accuracy of the chosen setting after each epoch, a line a fold. These are inner
folds, on which the epoch was chosen: the scored videos are not among them.""",
    "training on reported folds": """Held-out loss and accuracy after each epoch, a line a fold. These are the very
folds that are reported: the best point of such a line is what an optimistic number is made of.""",
    "twins": """The same model with random weights, asked the same question in the same folds. What it reaches comes
from architecture, probe and the dataset's shortcuts, not from pretraining. Bars are means over folds; a paired test
of the difference is made by echolung compare.""",
    "inner": """Validation results are those of the chosen setting on held-out parts of its own training part. It was
chosen for them, so they tend to flatter. Where it is known, the last table says what choosing on the scored fold
itself would have reported. Of classes all this is accuracy, which the published study chose by.""",
    "groups": """Does one source carry the result? A source that holds a single class can be recognised instead of the
disease. Rows of few videos are wide open: one video more or less moves them far.""",
    "mistakes": """Frames are as the encoder's cache keeps them (112 pixels, grey). Look whether these videos share a
source, a caption burnt into the image, a position of the probe. Labels may be wrong, too.""",
    "map": """Each point is a video's mean token, coloured by label, by source and by fold. Maps in two dimensions
invent clusters and distances: trust only what shows in all of them. Where colours of sources are tidier than colours
of labels, a probe can read the source instead. Of numbers the table says in all dimensions what a band of colours
suggests: whether distance goes with difference, whether neighbours tell the number, and whether those that are near in
the number are near in embeddings.""",
    "attention": """Where the attentive probe that was fitted on all data takes its information from: the mean over
heads, and each head. It has learnt from these very clips. Attention shows what was weighed, not why, and not that it
mattered.""",
    "samples": """Some videos of each class, as the encoder's cache keeps them. Captions, borders and gain that differ
by class are shortcuts.""",
    "study": """A trial's value is the pooled inner loss of its part. Importance says which hyper-parameters moved it
within the range that was searched; it takes many trials to be steady.""",
    "protocol": "What was done, fully resolved. docs/protocol.md says why.",
    "rerun": """The same seed on the same machine with the same number of threads gives the same predictions.csv, byte
for byte. The numbers of this page are computed anew from the saved predictions, whose digests are checked first.""",
}

NEEDS_STORE = "worst mistakes as pictures, the map of embeddings, attention, samples of the dataset, subgroups"

PROTOCOLS = {
    "nested": "nested: setting and epoch chosen on inner folds of each training part; each scored fold looked at once",
    "seed": "seed (optimistic): setting and epoch chosen on the fold that is reported, as the published study did",
    "flat": "flat (optimistic): one search over the very folds that are reported",
    "transfer": "transfer: chosen and trained on all of one dataset, the other predicted once",
    "split": "one split: chosen on the validation part, test part scored once",
}

OPTIMISTIC = {
    "seed": "Setting and epoch of each fold were chosen on the very videos that it is scored on, as the published study did.",
    "flat": "The setting was chosen on the very folds that it is scored on.",
}

INTERVALS = (
    "95 %: patients drawn with replacement from the saved out-of-fold predictions; training variance is not in them"
)
