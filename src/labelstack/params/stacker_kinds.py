"""Which class stands for which kind of stacker: names alone, so that a further one changes nothing about the others."""

CLASSES: dict[str, str] = {
    "cnn": "labelstack.stacking.stackers.cnn:CNNStacker",
    "xgboost": "labelstack.stacking.stackers.xgb:XGBoostStacker",
    "logistic": "labelstack.stacking.stackers.linear:LogisticStacker",
    "ridge": "labelstack.stacking.stackers.linear:RidgeStacker",
    "mean": "labelstack.stacking.stackers.means:MeanStacker",
    "rank_mean": "labelstack.stacking.stackers.means:RankMeanStacker",
    "weighted_mean": "labelstack.stacking.stackers.means:WeightedMeanStacker",
    "greedy": "labelstack.stacking.stackers.means:GreedyStacker",
    "per_label_weights": "labelstack.stacking.stackers.means:PerLabelWeightsStacker",
}


def module_of(kind: str) -> str:
    """The module of a kind's class."""
    return CLASSES[kind].partition(":")[0]
