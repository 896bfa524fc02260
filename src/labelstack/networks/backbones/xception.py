"""Xception (Chollet 2017)."""

from keras import applications

from labelstack.networks.backbones.architecture import Architecture, plus_minus_one, published_body

ARCHITECTURES = {"xception": Architecture(published_body(applications.Xception), plus_minus_one)}
