"""Perceptual features: the VGG table and `features(params, image, layers, network=...)`."""

from jaxstyle.features.fields import Field as Field
from jaxstyle.features.fields import receptive_field as receptive_field
from jaxstyle.features.vgg import CAFFE as CAFFE
from jaxstyle.features.vgg import CONVENTIONS as CONVENTIONS
from jaxstyle.features.vgg import NETWORKS as NETWORKS
from jaxstyle.features.vgg import PLAIN as PLAIN
from jaxstyle.features.vgg import TORCHVISION as TORCHVISION
from jaxstyle.features.vgg import Convention as Convention
from jaxstyle.features.vgg import Joined as Joined
from jaxstyle.features.vgg import Network as Network
from jaxstyle.features.vgg import adjusted as adjusted
from jaxstyle.features.vgg import check_layers as check_layers
from jaxstyle.features.vgg import features as features
from jaxstyle.features.vgg import initialize as initialize
from jaxstyle.features.vgg import network as network
from jaxstyle.features.vgg import preprocess as preprocess
