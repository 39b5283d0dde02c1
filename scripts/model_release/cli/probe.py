"""`probe.py`: would a browser get this URL?"""

import click


@click.command()
@click.argument("url")
@click.option(
    "--origin", default="https://app.example", show_default=True, metavar="URL", help="Where the web app is served."
)
@click.option("--sha256", metavar="HEX", help="What the file must hash to.")
@click.option("--size", type=click.IntRange(min=0), metavar="BYTES", help="What the file must measure.")
def probe(*, url: str, origin: str, sha256: str | None, size: int | None) -> None:
    """Ask for URL as a browser does for a page of another origin, and judge every redirect and what caches may keep."""
    from model_release.base.http import Web
    from model_release.hosts import cors_probe

    result = cors_probe.probe(url, Web(), origin=origin.rstrip("/"), sha256=sha256, size_bytes=size)
    click.echo(cors_probe.render(result))
    result.require()
