"""Inception v3 (Szegedy et al. 2016) and Inception-ResNet v2 (Szegedy et al. 2017)."""

from keras import applications

from labelstack.networks.backbones.architecture import Architecture, plus_minus_one, published_body

ARCHITECTURES = {
    "inception_v3": Architecture(published_body(applications.InceptionV3), plus_minus_one),
    "inception_resnet_v2": Architecture(published_body(applications.InceptionResNetV2), plus_minus_one),
}
