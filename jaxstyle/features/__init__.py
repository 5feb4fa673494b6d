"""Perceptual features: the VGG table and `features(params, image, layers, network=...)`."""

from jaxstyle.features.across import features_across as features_across
from jaxstyle.features.fields import Field as Field
from jaxstyle.features.fields import receptive_field as receptive_field
from jaxstyle.features.strips import features_in_strips as features_in_strips
from jaxstyle.features.table import CAFFE as CAFFE
from jaxstyle.features.table import CONVENTIONS as CONVENTIONS
from jaxstyle.features.table import NETWORKS as NETWORKS
from jaxstyle.features.table import PLAIN as PLAIN
from jaxstyle.features.table import TORCHVISION as TORCHVISION
from jaxstyle.features.table import Convention as Convention
from jaxstyle.features.table import Joined as Joined
from jaxstyle.features.table import Network as Network
from jaxstyle.features.table import adjusted as adjusted
from jaxstyle.features.table import network as network
from jaxstyle.features.vgg import IMAGE as IMAGE
from jaxstyle.features.vgg import check_layers as check_layers
from jaxstyle.features.vgg import features as features
from jaxstyle.features.vgg import initialize as initialize
from jaxstyle.features.vgg import preprocess as preprocess
