"""DenseNet (Huang et al. 2017)."""

from keras import applications

from labelstack.networks.backbones.architecture import Architecture, published_body, standardized

ARCHITECTURES = {
    "densenet121": Architecture(published_body(applications.DenseNet121), standardized),
    "densenet201": Architecture(published_body(applications.DenseNet201), standardized),
}
