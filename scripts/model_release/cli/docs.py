"""One source, generated copies: the contract as tables and as types, the commands' help, the map, the example.

In Markdown a generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`; everything
around it is prose written by people. The contract's TypeScript is generated from end to end.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import click

import model_release
from model_release.base.errors import ManifestError
from model_release.base.text import markdown_table
from model_release.contract.activations import CONTRACT_FOLDER, CacheKind, OutputKind, load_contract
from model_release.contract.blueprint import gpt2_blueprint
from model_release.contract.metadata import ModelMetadata
from model_release.contract.precision import model_file_name
from model_release.contract.selection import Selection
from model_release.contract.storage import Storage
from model_release.contract.tensor_names import tensor_name

_ROOT = CONTRACT_FOLDER.parent
_PACKAGE = Path(__file__).parents[1]
_EXAMPLE = _ROOT / "tests" / "typed_app" / "main.ts"
_READER = _ROOT / "tests" / "python_app" / "read.py"

_INPUT_SHAPE = "[batch, seq]"
_INPUT_MEANING = "Token ids, 0 to vocab − 1; at most the context the model promises."

_PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Replaces every generated part of a document.

    Raises:
        ManifestError: The document asks for a part there is no source for.
    """

    def replace(match: re.Match[str]) -> str:
        name = match[2]
        if name not in parts:
            raise ManifestError(f"a generated part must be one of {', '.join(parts)}; got {name}. Correct the marker.")
        return f"{match[1]}{parts[name]()}\n{match[3]}"

    return _PART.sub(replace, text)


def documents(commands: Iterable[click.Command]) -> dict[Path, str]:
    """Every document that is generated or has generated parts -> its text as it should be."""
    parts = {
        "version": lambda: f"Contract version **{load_contract().version}**.",
        "input": _input,
        "outputs": _outputs,
        "cache": _cache,
        "interventions": _interventions,
        "dimensions": _dimensions,
        "clauses": _clauses,
        "sums": _sums,
        "precisions": _precisions,
        "tolerances": _tolerances,
        "metadata": _metadata,
        "map": _map,
        "help": lambda: _help(commands),
        "reader": lambda: f"```python\n{_READER.read_text(encoding='utf-8')}```",
        "example": lambda: f"```ts\n{_EXAMPLE.read_text(encoding='utf-8')}```",
    }
    paths = (CONTRACT_FOLDER / "ACTIVATIONS_CONTRACT.md", _ROOT / "README.md", _PACKAGE.with_name("README.md"))
    filled = {path: fill(path.read_text(encoding="utf-8"), parts) for path in paths}
    return {**filled, CONTRACT_FOLDER / "activations.d.ts": _types()}


def _input() -> str:
    return markdown_table(
        ["input", "dtype", "shape", "meaning"],
        [[f"`{load_contract().input_name}`", "int64", f"`{_INPUT_SHAPE}`", _INPUT_MEANING]],
    )


def _outputs() -> str:
    rows = [
        [
            f"`{tensor_name(output.kind) if not output.layered else 'layer_{L}_' + output.kind}`",
            f"`[{', '.join(output.dims)}]`",
            "yes" if output.default else "by name" if output.on_request else "opt-in",
            output.exists,
            output.meaning,
            f"`{output.transformer_lens}`" if output.transformer_lens else "",
        ]
        for output in load_contract().outputs
    ]
    return markdown_table(["output", "shape", "default", "exists", "meaning", "TransformerLens"], rows)


def _cache() -> str:
    contract = load_contract()
    rows = [
        [f"`{tensor_name(row.kind, 0).replace('.0.', '.{L}.')}`", way, f"`[{', '.join(row.dims)}]`", row.meaning]
        for way, kinds in (("input", contract.cache_inputs), ("output", contract.cache_outputs))
        for row in kinds
    ]
    return markdown_table(["tensor", "", "shape", "meaning"], rows)


def _interventions() -> str:
    rows = [
        [f"`{row.name}`", f"`[{', '.join(row.dims)}]`", f"{row.neutral:g}", row.meaning]
        for row in load_contract().interventions
    ]
    return markdown_table(["input", "shape", "neutral", "meaning"], rows)


def _dimensions() -> str:
    return markdown_table(
        ["dimension", "meaning"], [[f"`{name}`", text] for name, text in load_contract().dimensions.items()]
    )


def _clauses() -> str:
    return markdown_table(
        ["clause", "judged on", "promise"],
        [[clause.id, clause.stage, clause.text] for clause in load_contract().clauses.values()],
    )


def _sums() -> str:
    return "\n".join(
        f"- `{rule.total}` = {' + '.join(f'`{part}`' for part in rule.parts)}" for rule in load_contract().sums
    )


def _precisions() -> str:
    rows = [
        [
            f"`{item.name}`",
            f"`{model_file_name(item.name)}`",
            item.stored,
            item.computed,
            f"{_width(item.table)} / {_width(item.matrix)} / {item.vector_bits}",
            f"{item.max_mean_kl:g}",
            f"{item.min_top1_agreement:.1%}",
            f"×{item.max_perplexity_ratio:g}",
            f"{item.max_relative_error:g}",
            f"{item.max_far_share:.0%}",
        ]
        for item in load_contract().precisions.values()
    ]
    header = [
        "precision",
        "file",
        "stored",
        "computed",
        "bits: tables / matrices / vectors",
        "KL01: at most, nats",
        "TOP01: at least",
        "PPL01: at most",
        "REL01: at most",
        "NUM01: may be further off",
    ]
    advised = [f"`{item.name}`: {item.advice}" for item in load_contract().precisions.values() if item.advice]
    return "\n\n".join((markdown_table(header, rows), *advised))


def _width(storage: Storage) -> str:
    """Bits a weight, and those of its scale."""
    bits = f"{storage.bits / storage.weights:.3g}"
    shared = f"a {storage.block}th" if storage.block else "a channel"
    return f"{bits} + {storage.scale_bits} {shared}" if storage.scale_bits else bits


def _tolerances() -> str:
    rows = [
        [
            f"`{precision.name}`",
            f"`{kind}`" if kind != "default" else "every other",
            f"{limit.atol:g}",
            f"{limit.rtol:g}",
        ]
        for precision in load_contract().precisions.values()
        for kind, limit in sorted(precision.tolerances.items())
    ]
    gated = [
        f"`{precision.name}`: rtol {precision.gated_rtol:g} where MLPs have gates, whose products make some numbers of "
        "a token thousands of times as large as others."
        for precision in load_contract().precisions.values()
        if precision.gated_rtol
    ]
    return "\n\n".join((markdown_table(["precision", "output", "atol", "rtol"], rows, right=[2, 3]), *gated))


def _metadata() -> str:
    """The keys, with GPT-2's values as the example."""
    example = ModelMetadata(
        contract_version=load_contract().version,
        source="openai-community/gpt2",
        revision="607a30d783dfa663caf39e06633721c8d4cfcd7e",
        weights_sha256="248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        blueprint=gpt2_blueprint(
            layers=12, heads=12, hidden=768, intermediate=3072, vocab=50257, positions=1024, tied=True
        ),
        selection=Selection(layers=(0, 5, 11), activations=load_contract().default_activations),
        precision="fp16",
    )
    return markdown_table(["key", "example"], [[f"`{key}`", f"`{value}`"] for key, value in example.to_props().items()])


def _types() -> str:
    """The names as TypeScript, for apps; shapes and meanings are comments, which editors show."""
    contract = load_contract()
    dimensions = "\n".join(f"//   {name}: {text}" for name, text in contract.dimensions.items())
    outputs = "\n".join(
        (*map(_member, contract.outputs), *(_cached(row, "T | undefined") for row in contract.cache_outputs))
    )
    cached = "\n".join(_cached(row, "T") for row in contract.cache_inputs)
    touched = "\n".join(
        f"  /** `[{', '.join(row.dims)}]`: {row.meaning} All {row.neutral:g} changes nothing. */\n"
        f"  readonly {row.name}: T;"
        for row in contract.interventions
    )
    return f"""\
// The names of a released model's tensors: contract/activations.json as types, written by scripts/docs.py.
// T is what a tensor is in the app. Dimensions:
{dimensions}

/** The contract these types are made from. */
export type ContractVersion = "{contract.version}";

/** Its major version. A model of another one may break an app that is written for this one. */
export type ContractMajor = "{contract.version.split(".")[0]}";

/** What a run takes. */
export type Inputs<T> = {{
  /** int64 `{_INPUT_SHAPE}`: {_INPUT_MEANING} */
  readonly {contract.input_name}: T;
}};

/** What a run of a file made with `--cache` takes. */
export type CachedInputs<T> = Inputs<T> & {{
{cached}
}};

/** What a run of a file made with `--interventions` takes besides. */
export type Interventions<T> = {{
{touched}
}};

/** What a run returns, every tensor float32: the logits, and what the model was exported with. */
export type Outputs<T> = {{
{outputs}
}};

/** The name of any output, such as `layer_11_attn_probs`. */
export type OutputName = keyof Outputs<unknown>;
"""


def _member(output: OutputKind) -> str:
    """A line of the table of outputs as a member of a type."""
    if output.layered:
        member = f"[name: `layer_${{number}}_{output.kind}`]: T | undefined"
    else:
        member = f"{output.kind}: T" if output.kind == "logits" else f"{output.kind}?: T"
    exists = "" if output.exists == "always" else f" There is one {output.exists}."
    return f"  /** `[{', '.join(output.dims)}]`: {output.meaning}{exists} */\n  readonly {member};"


def _cached(row: CacheKind, type_: str) -> str:
    """A line of the table of `--cache` as a member of a type."""
    name = tensor_name(row.kind, 0).replace(".0.", ".${number}.")
    return f"  /** `[{', '.join(row.dims)}]`: {row.meaning} */\n  readonly [name: `{name}`]: {type_};"


def _map() -> str:
    """The packages in their order, each with its charter and what its modules say of themselves."""
    parts = []
    for package in (_PACKAGE / name for name in re.findall(r"^    (\w+)", model_release.__doc__ or "", re.MULTILINE)):
        rows = [
            [f"`{str(path.relative_to(package)).removesuffix('__init__.py')}`", _summary(path)]
            for path in sorted(package.rglob("*.py"))
            if path.parent != package or path.name != "__init__.py"
        ]
        charter = _summary(package / "__init__.py")
        parts.append(f"### `{package.name}`\n\n{charter}\n\n{markdown_table(['module', 'what'], rows)}")
    return "\n\n".join(parts)


def _summary(path: Path) -> str:
    """The first paragraph of a module's docstring."""
    return " ".join((ast.get_docstring(ast.parse(path.read_bytes())) or "").partition("\n\n")[0].split())


def _help(commands: Iterable[click.Command]) -> str:
    """The commands' own help, at a width that fits a page."""
    blocks = []
    for name, command in _with_subcommands(commands):
        context = click.Context(command, info_name=f"python scripts/{name}", max_content_width=100, terminal_width=100)
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        blocks.append(f"### `{name}`\n\n```text\n{text}\n```")
    return "\n\n".join(blocks) + "\n"


def _with_subcommands(commands: Iterable[click.Command]) -> Iterator[tuple[str, click.Command]]:
    """Every command as it is called from `scripts`, each followed by its subcommands."""
    for command in commands:
        yield f"{command.name}.py", command
        if isinstance(command, click.Group):
            for name, subcommand in command.commands.items():
                yield f"{command.name}.py {name}", subcommand


@click.command()
@click.pass_obj
@click.option("--check", is_flag=True, help="Change nothing; fail if a document is not up to date.")
def docs(commands: tuple[click.Command, ...], *, check: bool) -> None:
    """Write what is generated: the contract's tables and types, and parts of the READMEs."""
    from model_release.base.errors import ManifestError
    from model_release.base.files import write_bytes

    for path, text in documents(commands).items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        name = path.relative_to(_ROOT)
        if check:
            raise ManifestError(
                f"{name} must hold what its sources say. Run python scripts/docs.py and commit the result."
            )
        write_bytes(path, text.encode(), error=ManifestError)
        click.echo(f"{name}: written")
