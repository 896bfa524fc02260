"""NASNet-A Large (Zoph et al. 2018)."""

from keras import applications

from labelstack.networks.backbones.architecture import Architecture, plus_minus_one, published_body

ARCHITECTURES = {
    "nasnet": Architecture(published_body(applications.NASNetLarge), plus_minus_one, published_size=331),
}
