"""A release -> `bom.cdx.json`, its bill of materials for machines: weights, files made of them, and with what.

CycloneDX 1.6: https://cyclonedx.org/docs/1.6/json/. It names library versions, so it describes a release, as
`measured.json` does. Equal content gives equal bytes: it has no date, and its serial number is made from the rest.
"""

import importlib.metadata
from collections.abc import Iterable
from uuid import NAMESPACE_OID, UUID, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from model_release.base.version import TOOL, VERSION
from model_release.contract.manifest import FileEntry, Manifest, ModelEntry, Variant, is_data_file
from model_release.contract.measured import Measured
from model_release.release.notes import hub_page, licence_of, model_card

_WRITER = "cyclonedx-python-lib"


def render_bom(document: Manifest, figures: Measured) -> bytes:
    """The bill of materials of a model's part of a release, as JSON."""
    licences = _licences(document.model)
    weights = _weights(document.model, licences)
    files = {entry.name: _file(entry, document.variants_by_file.get(entry.name), licences) for entry in document.files}
    release = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="release",
        name=document.name,
        version=document.version,
        licenses=licences,
        properties=_properties(tag=document.tag, contract_version=document.contract_version),
    )
    tools = {**figures.made_with, _WRITER: importlib.metadata.version(_WRITER)}
    bom = Bom(
        serial_number=UUID(int=0),
        metadata=BomMetaData(
            component=release,
            tools=ToolRepository(
                components=[
                    Component(type=ComponentType.APPLICATION, bom_ref=f"tool:{TOOL}", name=TOOL, version=VERSION),
                    *(_library(name, version) for name, version in tools.items()),
                ]
            ),
        ),
        components=[weights, *files.values()],
    )
    bom.metadata.timestamp = None  # type: ignore[assignment] # It may be missing; the library would put the clock's.
    bom.register_dependency(release, files.values())
    for file in document.variants_by_file:
        data = (component for name, component in files.items() if is_data_file(name, file))
        bom.register_dependency(files[file], [weights, *data])
    bom.serial_number = uuid5(NAMESPACE_OID, _written(bom))
    return _written(bom).encode()


def _written(bom: Bom) -> str:
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n"


def _weights(model: ModelEntry, licences: Iterable[License]) -> Component:
    """The weights, and the files that held them."""
    pages = {
        ExternalReferenceType.DISTRIBUTION: hub_page(model),
        ExternalReferenceType.MODEL_CARD: model_card(model),
    }
    owner, _, name = model.source.rpartition("/")
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="weights",
        name=model.source,
        version=model.revision or None,
        purl=PackageURL("huggingface", owner or None, name, model.revision) if hub_page(model) else None,
        licenses=licences,
        external_references=[ExternalReference(type=kind, url=XsUri(page)) for kind, page in pages.items() if page],
        properties=_properties(weights_sha256=model.weights_sha256, parameters=model.parameters),
        components=[
            Component(
                type=ComponentType.FILE,
                bom_ref=f"weights:{entry.name}",
                name=entry.name,
                hashes=_hashes(entry),
                properties=_properties(size_bytes=entry.size_bytes),
            )
            for entry in model.weights
        ],
    )


def _file(entry: FileEntry, variant: Variant | None, licences: Iterable[License]) -> Component:
    """A file of the release; a model's says how its weights are stored and what is computed with them."""
    is_model = variant is not None
    of_model = {} if variant is None else {key: getattr(variant, key) for key in ("precision", "stored", "computed")}
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL if is_model else ComponentType.FILE,
        bom_ref=f"file:{entry.name}",
        name=entry.name,
        hashes=_hashes(entry),
        licenses=licences if is_model else (),
        properties=_properties(size_bytes=entry.size_bytes, **of_model),
    )


def _library(name: str, version: str) -> Component:
    return Component(bom_ref=f"tool:{name}", name=name, version=version, purl=PackageURL("pypi", None, name, version))


def _licences(model: ModelEntry) -> list[License]:
    known = licence_of(model)
    return [LicenseFactory().make_from_string(known)] if known else []


def _hashes(entry: FileEntry) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=entry.sha256)]


def _properties(**facts: object) -> list[Property]:
    """What CycloneDX has no field for."""
    return [Property(name=f"{TOOL}:{key}", value=str(value)) for key, value in facts.items()]
