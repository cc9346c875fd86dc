"""``python -m longtake_facade``: the server's command alone."""

import typer

from longtake_facade.serve import serve

app = typer.Typer(add_completion=False)
app.command()(serve)


@app.callback()
def main() -> None:
    """The server of Longtake."""


if __name__ == "__main__":
    app()
