"""The nine statistic schemes of Table 5, by the names that the paper's code gives them."""

from raysynth.specs.init_schemes import Family, GroupBy, Statistic

SCHEMES = {
    "per_param_grouping___init_mean_std": (GroupBy.PARAMETER, Statistic.MEAN_SD, Family.ALL),
    "per_param_grouping___init_scale": (GroupBy.PARAMETER, Statistic.SCALE, Family.ALL),
    "across_ALL_layer_grouping___init_scale": (GroupBy.TYPE, Statistic.SCALE, Family.ALL),
    "per_layer_grouping___init_scale": (GroupBy.LAYER, Statistic.SCALE, Family.ALL),
    "across_ALL_layer_AND_per_layer_grouping___init_scale": (GroupBy.MODEL, Statistic.SCALE, Family.ALL),
    "preattnln_per_param_grouping___init_scale": (
        GroupBy.PARAMETER,
        Statistic.SCALE,
        Family.PRE_ATTENTION_LAYER_NORM,
    ),
    "premlpln_per_param_grouping___init_scale": (GroupBy.PARAMETER, Statistic.SCALE, Family.PRE_MLP_LAYER_NORM),
    "qkvo_per_param_grouping___init_scale": (GroupBy.PARAMETER, Statistic.SCALE, Family.ATTENTION),
    "mlp_per_param_grouping___init_scale": (GroupBy.PARAMETER, Statistic.SCALE, Family.MLP),
}
