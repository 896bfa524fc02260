"""Which class stands for which kind of stacker: names alone, so that a further one changes nothing about the others."""

CLASSES: dict[str, str] = {
    "cnn": "labelstack.stacking.cnn:CNNStacker",
    "xgboost": "labelstack.stacking.xgb:XGBoostStacker",
    "logistic": "labelstack.stacking.linear:LogisticStacker",
    "ridge": "labelstack.stacking.linear:RidgeStacker",
    "mean": "labelstack.stacking.means:MeanStacker",
    "rank_mean": "labelstack.stacking.means:RankMeanStacker",
    "weighted_mean": "labelstack.stacking.means:WeightedMeanStacker",
    "greedy": "labelstack.stacking.means:GreedyStacker",
    "per_label_weights": "labelstack.stacking.means:PerLabelWeightsStacker",
}


def module_of(kind: str) -> str:
    """The module of a kind's class."""
    return CLASSES[kind].partition(":")[0]
