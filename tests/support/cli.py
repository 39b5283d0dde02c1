"""Every command by its name, as the entry files in scripts/ have them."""

from model_release.cli.browse import browse as browse
from model_release.cli.build import build as build
from model_release.cli.docs import docs as docs
from model_release.cli.doctor import doctor as doctor
from model_release.cli.export import export as export
from model_release.cli.fetch import fetch as fetch
from model_release.cli.main import COMMANDS as COMMANDS
from model_release.cli.main import run as run
from model_release.cli.plan import plan as plan
from model_release.cli.point import point as point
from model_release.cli.probe import probe as probe
from model_release.cli.publish import publish as publish
from model_release.cli.quantize import quantize as quantize
from model_release.cli.release import release as release
from model_release.cli.verify import verify as verify
from model_release.cli.weights import weights as weights
