"""ResNet-50 (He et al. 2016) and the pre-activation ResNet-152 v2."""

from keras import applications

from labelstack.networks.backbones.architecture import Architecture, caffe, plus_minus_one, published_body

ARCHITECTURES = {
    "resnet50": Architecture(published_body(applications.ResNet50), caffe),
    "resnet152_v2": Architecture(published_body(applications.ResNet152V2), plus_minus_one),
}
