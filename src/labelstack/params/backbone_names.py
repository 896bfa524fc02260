"""Which file has which backbone: names alone, so that a further one changes nothing about those that are there."""

MODULES: dict[str, str] = {
    name: f"labelstack.networks.backbones.{file}"
    for file, names in {
        "densenet": ("densenet201", "densenet121"),
        "descriptors": ("descriptors",),
        "efficientnet": ("efficientnet_b0",),
        "inception": ("inception_v3", "inception_resnet_v2"),
        "mobilenet": ("mobilenet", "mobilenet_v2"),
        "nasnet": ("nasnet",),
        "pixels": ("pixels",),
        "resnet": ("resnet50", "resnet152_v2"),
        "silhouette": ("silhouette", "silhouette_pixels"),
        "small_cnn": ("small_cnn",),
        "small_resnet": ("small_resnet",),
        "xception": ("xception",),
    }.items()
    for name in names
}
