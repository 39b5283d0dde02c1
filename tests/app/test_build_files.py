"""Who sets the model's URL in files that a build is made of: what is found, and what is no alarm."""

import doctest
from types import ModuleType

import pytest

from model_release.app.builds import build_files, effect
from model_release.app.builds.build_files import build_files_of, findings
from model_release.app.envfile import URL_KEY, VERSION_KEY
from model_release.app.overrides import find_shadows

FILE, FOLDER = ".env.production", "apps/web"
URL = "https://github.com/o/r/releases/download/model-v1.0.0/model_fp16.onnx?v=1.0.0-0a1b2c3d"
WORKFLOW = ".github/workflows/deploy.yml"


def problems(path: str, text: str, *, file: str = FILE, folder: str | None = FOLDER) -> list[str]:
    """Each warning without the file's name."""
    found = find_shadows(
        {URL_KEY: URL, VERSION_KEY: "1.0.0"},
        file=file,
        files={},
        workflows={path: text},
        environment={},
        folder=folder,
    )
    assert all(warning.startswith(f"{path} line ") for warning in found)
    return [warning.removeprefix(f"{path} line ") for warning in found]


def run(script: str, *, folder: str = "") -> str:
    """A workflow with a script in lines 5 and on."""
    lines = "".join(f"          {line}\n" for line in script.splitlines())
    where = f"        working-directory: {folder}\n" if folder else ""
    return f"jobs:\n  a:\n    steps:\n      - run: |\n{lines}{where}      - run: npm run build\n"


def uses(action: str, inputs: str) -> str:
    """A workflow with an action in line 4, and its inputs in lines 6 and on."""
    lines = "".join(f"          {line}\n" for line in inputs.splitlines())
    return f"jobs:\n  a:\n    steps:\n      - uses: {action}\n        with:\n{lines}"


@pytest.mark.parametrize("room", [build_files, effect], ids=lambda room: room.__name__)
def test_examples_in_docstrings_are_true(room: ModuleType) -> None:
    done = doctest.testmod(room)
    assert (done.failed, done.attempted > 0) == (0, True)


# -- steps that write the env file


@pytest.mark.parametrize(
    ("script", "line", "says"),
    [
        ('echo "VITE_MODEL_URL=${{ secrets.URL }}" > apps/web/.env.production', 5, "it sets VITE_MODEL_URL to"),
        ('echo "VITE_MODEL_URL=${{ secrets.URL }}" >> apps/web/.env.production', 5, "where secrets.URL is not set"),
        ("echo VITE_MODEL_URL=$URL | tee -a apps/web/.env.production", 5, "it sets VITE_MODEL_URL to '$URL' in"),
        ("npm ci\necho A=1 | sudo tee apps/web/.env.production >/dev/null", 6, "it replaces .env.production"),
        ("cat <<EOF > apps/web/.env.production\nA=1\nVITE_MODEL_URL=x\nEOF", 5, "it sets VITE_MODEL_URL to 'x'"),
        ("cat >> apps/web/.env.production <<-'EOF'\n\tVITE_MODEL_URL=x\n\tEOF", 5, "it sets VITE_MODEL_URL to 'x'"),
        ("cat <<EOF | tee apps/web/.env.production\nVITE_MODEL_URL=x\nEOF", 5, "it sets VITE_MODEL_URL to 'x'"),
        ("{ echo A=1; echo VITE_MODEL_URL=x; } > apps/web/.env.production", 5, "it sets VITE_MODEL_URL to 'x'"),
        ("(echo A=1; echo VITE_MODEL_URL=x) >> apps/web/.env.production", 5, "it sets VITE_MODEL_URL to 'x'"),
        ('printf "VITE_MODEL_URL=%s\\n" "$URL" >> apps/web/.env.production', 5, "to '$URL' in .env.production"),
        ('echo "${{ secrets.ENV_FILE }}" > apps/web/.env.production', 5, "it replaces .env.production"),
        ('echo "${{ secrets.ENV_FILE }}" >> apps/web/.env.production', 5, "it may set VITE_MODEL_URL in"),
        ('echo "$ENV" | base64 -d > apps/web/.env.production', 5, "it replaces .env.production"),
        ("cp apps/web/.env.example apps/web/.env.production", 5, "it replaces .env.production"),
        ("mv ci.env apps/web/.env.production", 5, "it replaces .env.production"),
        ("envsubst < env.in > apps/web/.env.production", 5, "it replaces .env.production"),
        ("doppler secrets download --no-file --format env > apps/web/.env.production", 5, "it replaces"),
        ("op inject -i env.in -o apps/web/.env.production", 5, "it replaces .env.production"),
        ("sed -i 's|^VITE_MODEL_URL=.*|VITE_MODEL_URL=x|' apps/web/.env.production", 5, "it may set VITE_MODEL_URL"),
        ("cd apps/web\necho VITE_API=1 > .env.production", 6, "it replaces .env.production"),
        ("if true; then\n  echo VITE_API=1 > apps/web/.env.production\nfi", 6, "it replaces .env.production"),
        ("echo VITE_MODEL_URL=x > apps/web/.env.production.local", 5, "it sets VITE_MODEL_URL to 'x'"),
        ('echo "$ENV" > apps/web/.env.production.local', 5, "it writes .env.production.local, which Vite reads before"),
        ('"VITE_MODEL_URL=x" | Out-File apps/web/.env.production', 5, "it replaces .env.production"),
        ("Set-Content -Path apps/web/.env.production -Value VITE_MODEL_URL=x", 5, "VITE_MODEL_URL"),
        ("rm -f apps/web/.env.production", 5, "it replaces .env.production"),
        ("docker build --build-arg VITE_MODEL_URL=$URL .", 5, "it sets VITE_MODEL_URL to '$URL'"),
        ("npx cross-env VITE_MODEL_URL=x vite build", 5, "it sets VITE_MODEL_URL to 'x'"),
        ("$env:VITE_MODEL_URL = 'x'", 5, "it sets VITE_MODEL_URL to 'x'"),
        ("cat >> $GITHUB_ENV <<EOF\nVITE_MODEL_URL=x\nEOF", 5, "it sets VITE_MODEL_URL to 'x'"),
    ],
)
def test_a_script_that_sets_the_url_or_writes_the_env_file_is_named_with_its_line(
    script: str, line: int, says: str
) -> None:
    (problem,) = problems(WORKFLOW, run(script))
    assert problem.startswith(f"{line}: ")
    assert says in problem
    if "\n" not in script and not script.startswith('"'):
        assert problems(".gitlab-ci.yml", f"build:\n  script:\n    - {script}\n")[0].startswith("3: ")


@pytest.mark.parametrize(
    "script",
    [
        "# echo VITE_MODEL_URL=x > apps/web/.env.production",
        "npm ci # VITE_MODEL_URL=x npm run build",
        "echo VITE_API=1 >> apps/web/.env.production",
        "echo VITE_API=$API >> apps/web/.env.production",
        "cat <<EOF >> apps/web/.env.production\nVITE_API=1\nMY_VITE_MODEL_URL=x\nEOF",
        "echo VITE_API=1 > apps/web/.env.production.local",
        "echo VITE_MODEL_URL=x > apps/web/.env",
        "echo VITE_MODEL_URL=x > apps/web/.env.example",
        "echo VITE_MODEL_URL=x > apps/other/.env.production",
        f"echo VITE_MODEL_URL='{URL}' >> apps/web/.env.production",
        "cat apps/web/.env.production",
        "cp apps/web/.env.production backup",
        "cat apps/web/.env.production >> $GITHUB_ENV",
        "test -f apps/web/.env.production || exit 1",
        "grep VITE_MODEL_URL= apps/web/.env.production > found.txt",
        "echo done 2> apps/web/.env.production",
        'echo "VITE_MODEL_URL=x"',
        "MY_VITE_MODEL_URL=x npm run build",
        "VITE_MODEL_URL_2=x npm run build",
        "sed -i 's|VITE_API=.*|VITE_API=1|' apps/web/.env.production",
        "touch apps/web/.env.production",
        "it's an open quote\necho done",
        'curl -o model.onnx "$VITE_MODEL_URL"',
        "git add apps/web/.env.production && git commit -m 'VITE_MODEL_URL=x'",
    ],
)
def test_other_variables_other_files_comments_and_readers_are_no_alarm(script: str) -> None:
    assert problems(WORKFLOW, run(script)) == []


def test_where_a_script_runs_decides_whose_env_file_it_writes() -> None:
    script = "echo A=1 > .env.production"
    assert problems(WORKFLOW, run(script, folder="apps/other")) == []
    assert problems(WORKFLOW, run(script, folder="./apps/web")) != []
    assert problems(WORKFLOW, run("cd apps/other && echo A=1 > .env.production")) == []
    assert problems(WORKFLOW, run("echo A=1 > web/.env.production", folder="apps")) != []
    usual = "defaults:\n  run:\n    working-directory: apps/other\n"
    assert problems(WORKFLOW, usual + run(script)) == []
    assert problems(WORKFLOW, run("echo A=1 > apps/other/.env.production"), folder=None) != []
    assert problems(WORKFLOW, run(script), file=".env.production.local") == []  # fetch.py comes behind it.


@pytest.mark.parametrize(
    ("action", "inputs", "line"),
    [
        (
            "SpicyPizza/create-envfile@v2",
            "envkey_VITE_MODEL_URL: ${{ secrets.U }}\nfile_name: apps/web/.env.production",
            4,
        ),
        ("SpicyPizza/create-envfile@v2", "envkey_A: 1\ndirectory: apps/web\nfile_name: .env.production", 4),
        ("o/write-file-action@v1", "path: apps/web/.env.production\ncontents: |\n  A=1\n  VITE_MODEL_URL=x", 4),
        ("o/base64-to-file@v1", "fileName: .env.production\nencodedString: ${{ secrets.ENV }}", 4),
        ("o/secrets-action@v1", "export-type: file\nfile-output-path: apps/web/.env.production", 4),
        ("o/template@v1", "output_file: apps/web/.env.production\ntemplate: x", 4),
        ("docker/build-push-action@v6", "push: true\nbuild-args: |\n  A=1\n  VITE_MODEL_URL=${{ secrets.U }}", 7),
        ("o/deploy@v1", "VITE_MODEL_URL: x", 6),
    ],
)
def test_an_action_that_writes_the_env_file_or_sets_the_url_is_named(action: str, inputs: str, line: int) -> None:
    (problem,) = problems(WORKFLOW, uses(action, inputs))
    assert int(problem.partition(":")[0]) in (line, line + 1)


@pytest.mark.parametrize(
    ("action", "inputs"),
    [
        ("o/transformer-model-release/.github/actions/fetch-model@v1", "env_file: apps/web/.env.production"),
        ("actions/cache@v4", "path: apps/web/.env.production\nkey: x"),
        ("SpicyPizza/create-envfile@v2", "envkey_VITE_MODEL_URL: x\ndirectory: apps/web"),
        ("SpicyPizza/create-envfile@v2", "envkey_VITE_MODEL_URL: x\nfile_name: apps/other/.env.production"),
        ("falti/dotenv-action@v1", "path: apps/web/.env.production"),
        ("docker/build-push-action@v6", "build-args: |\n  VITE_API=1"),
        ("o/deploy@v1", "MY_VITE_MODEL_URL: x\nnotes: set VITE_MODEL_URL first"),
    ],
)
def test_other_actions_are_no_alarm(action: str, inputs: str) -> None:
    assert problems(WORKFLOW, uses(action, inputs)) == []


# -- other services


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        (".gitlab-ci.yml", "variables:\n  VITE_MODEL_URL: https://x\n", 2),
        (".circleci/config.yml", "jobs:\n  a:\n    environment:\n      VITE_MODEL_URL: x\n", 4),
        ("compose.yaml", "services:\n  web:\n    build:\n      args:\n        VITE_MODEL_URL: ${URL}\n", 5),
        ("docker-compose.yml", "services:\n  web:\n    build:\n      args:\n        - VITE_MODEL_URL=x\n", 5),
        ("render.yaml", "services:\n  - type: web\n    envVars:\n      - key: VITE_MODEL_URL\n        value: x\n", 4),
        (
            "amplify.yml",
            "frontend:\n  phases:\n    build:\n      commands:\n        - VITE_MODEL_URL=x npm run build\n",
            5,
        ),
    ],
)
def test_other_services_that_build_are_read_too(path: str, text: str, line: int) -> None:
    (problem,) = problems(path, text)
    assert problem.startswith(f"{line}: it sets VITE_MODEL_URL to ")


def test_what_a_container_is_started_with_comes_after_the_build() -> None:
    assert problems("compose.yaml", "services:\n  web:\n    environment:\n      VITE_MODEL_URL: x\n") == []


BUILD = "\nRUN npm ci && npm run build\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (f"FROM node\nENV VITE_MODEL_URL=x{BUILD}", 2, "it sets VITE_MODEL_URL to 'x'"),
        (f"FROM node\nENV VITE_MODEL_URL x{BUILD}", 2, "it sets VITE_MODEL_URL to 'x'"),
        (f"FROM node\nENV A=1 \\\n  # why\n  VITE_MODEL_URL='x'{BUILD}", 2, "it sets VITE_MODEL_URL to 'x'"),
        (f"FROM node\nARG VITE_MODEL_URL=x{BUILD}", 2, "it sets VITE_MODEL_URL to 'x'"),
        (f"FROM node\nARG VITE_MODEL_URL{BUILD}", 2, "it takes VITE_MODEL_URL from --build-arg"),
        ("FROM node\nRUN VITE_MODEL_URL=x npm run build\n", 2, "it sets VITE_MODEL_URL to 'x'"),
        ("FROM node\nRUN echo A=1 > .env.production && \\\n  npm run build\n", 2, "it replaces .env.production"),
        (f"FROM node\nCOPY .env.staging .env.production{BUILD}", 2, "it replaces .env.production"),
        (f"FROM node AS base\nENV VITE_MODEL_URL=x\nFROM base AS build{BUILD}", 2, "it sets VITE_MODEL_URL to 'x'"),
    ],
)
def test_a_dockerfile_that_sets_the_url_for_the_build_is_named(text: str, line: int, says: str) -> None:
    (problem,) = problems("apps/web/Dockerfile", text)
    assert problem.startswith(f"{line}: {says}")


@pytest.mark.parametrize(
    "text",
    [
        f"FROM node\n# ENV VITE_MODEL_URL=x\nENV VITE_API=1 MY_VITE_MODEL_URL=x\nARG VITE_MODEL_URL_2{BUILD}",
        f"FROM node{BUILD}FROM nginx\nENV VITE_MODEL_URL=x\nRUN apk add curl\n",
        f"FROM node\nCOPY .env.production ./\nCOPY . .\nCOPY apps/web/.env.production .env.production{BUILD}",
        f"FROM node\nENV VITE_MODEL_URL={URL} VITE_MODEL_VERSION=1.0.0{BUILD}",
        "FROM\nENV\nARG\nRUN\nCOPY\n\\\n",
    ],
)
def test_a_dockerfile_that_does_not_is_no_alarm(text: str) -> None:
    assert problems("Dockerfile", text) == []


@pytest.mark.parametrize(
    ("path", "text", "lines"),
    [
        ("netlify.toml", '[build.environment]\nA = "1"\nVITE_MODEL_URL = "x"\n', [3]),
        ("netlify.toml", '[build]\nenvironment = { VITE_MODEL_URL = "" }\n', [2]),
        (
            "netlify.toml",
            '[build]\ncommand = "x"\n[context.production]\ncommand = "VITE_MODEL_URL=x vite build"\n',
            [4],
        ),
        ("netlify.toml", '[context.production.environment]\nVITE_MODEL_URL = "x"\n', [2]),
        ("apps/web/netlify.toml", "[build]\ncommand = 'cp .env.x .env.production && vite build'\n", [2]),
        ("vercel.json", '{\n  "build": {"env": {\n    "VITE_MODEL_URL": "@url"}}\n}', [3]),
        ("vercel.json", '{\n  "buildCommand": "VITE_MODEL_URL=x vite build"\n}', [2]),
        ("netlify.toml", '# VITE_MODEL_URL = "x"\n[build.environment]\nMY_VITE_MODEL_URL = "x"\n', []),
        ("netlify.toml", "[build.environment]\nVITE_MODEL_URL = \n", []),
        ("netlify.toml", '[functions.environment]\nVITE_MODEL_URL = "x"\n', []),
        ("vercel.json", '{"build": {"env": {"VITE_API": "x"}}, "rewrites": []}', []),
        ("vercel.json", "[", []),
        ("vercel.json", "[1]", []),
    ],
)
def test_settings_of_a_host_are_read(path: str, text: str, lines: list[int]) -> None:
    assert [int(problem.partition(":")[0]) for problem in problems(path, text)] == lines


@pytest.mark.parametrize(
    ("scripts", "line"),
    [
        ('"build": "cross-env VITE_MODEL_URL=x vite build"', 2),
        ('"build": "VITE_MODEL_URL=x vite build"', 2),
        ('"build": "set VITE_MODEL_URL=x&& vite build"', 2),
        ('"dev": "vite",\n"prebuild": "cp .env.example .env.production",\n"build": "vite build"', 3),
        ('"build": "npm run env && vite build",\n"env": "echo VITE_MODEL_URL=x > .env.production"', 3),
        ('"deploy": "VITE_MODEL_URL=x npm run build && gh-pages -d dist",\n"build": "vite build"', 2),
        ('"build": "tsc && vite build --mode staging"', 2),
        ('"build": "vite build -m staging"', 2),
    ],
)
def test_a_packages_scripts_that_build_are_read(scripts: str, line: int) -> None:
    (problem,) = problems("apps/web/package.json", f'{{"scripts": {{\n{scripts}\n}}}}')
    assert problem.startswith(f"{line}: it ")


@pytest.mark.parametrize(
    "scripts",
    [
        '"dev": "cross-env VITE_MODEL_URL=x vite"',
        '"build": "cross-env VITE_API=x MY_VITE_MODEL_URL=y vite build"',
        '"build": "vite build", "build:staging": "cross-env VITE_MODEL_URL=x vite build --mode staging"',
        '"build": "vite build --mode production"',
        '"build": "vite build", "test": "VITE_MODEL_URL=x vitest"',
    ],
)
def test_scripts_for_other_ends_are_no_alarm(scripts: str) -> None:
    assert problems("apps/web/package.json", f'{{"scripts": {{{scripts}}}}}') == []
    assert problems("apps/web/package.json", "{") == []


@pytest.mark.parametrize(
    ("config", "line", "says"),
    [
        ("define: {\n'import.meta.env.VITE_MODEL_URL': JSON.stringify('x'),\n}", 3, "define puts JSON.stringify('x')"),
        ('define: { "import.meta.env.VITE_MODEL_URL": JSON.stringify(process.env.VITE_MODEL_URL) }', 2, "define puts"),
        ("envDir: '../../config'", 2, "envDir has Vite read env files in config"),
        ("envDir: path.resolve(__dirname, '..', '..'),", 2, "envDir has Vite read env files in the repository's root"),
        ("envDir: false", 2, "envDir: false"),
        ("root: 'src',", 2, "root has Vite read env files in apps/web/src"),
        (
            "root: fileURLToPath(new URL('./client', import.meta.url)),",
            2,
            "root has Vite read env files in apps",
        ),
        ("envPrefix: 'APP_'", 2, "envPrefix lets the app see variables with APP_ only"),
    ],
)
def test_a_config_of_vite_that_passes_by_the_env_file_is_named(config: str, line: int, says: str) -> None:
    (problem,) = problems("apps/web/vite.config.ts", f"export default defineConfig({{\n{config}\n}})\n")
    assert problem.startswith(f"{line}: {says}")


@pytest.mark.parametrize(
    "config",
    [
        "// define: { 'import.meta.env.VITE_MODEL_URL': '1' },\n/* envDir: '../x' */",
        "define: { 'import.meta.env.VITE_API': '1', __APP__: '2' }",
        "define: { 'import.meta.env.VITE_MODEL_URL': JSON.stringify(env.VITE_MODEL_URL) }",
        "envDir: '.'",
        "envDir: './'",
        "envDir: __dirname",
        "envDir: process.cwd()",
        "root: '.', test: { root: 'src' }, build: { outDir: '../dist' }, plugins: [x({ root: 'y', envDir: 'z' })]",
        "envDir: '../web'",
        "envPrefix: ['VITE_', 'APP_']",
        "root: 'src', envDir: '..' + '/web'",
        "server: { proxy: { '/api': 'http://localhost // root: \\'x\\'' } }",
    ],
)
def test_a_config_of_vite_that_does_not_is_no_alarm(config: str) -> None:
    assert problems("apps/web/vite.config.ts", f"export default defineConfig({{\n{config}\n}})\n") == []


def test_the_process_own_environment_may_be_set_in_a_config() -> None:
    (problem,) = problems("apps/web/vite.config.js", "process.env.VITE_MODEL_URL ??= 'x';\nexport default {}\n")
    assert problem.startswith("1: it sets VITE_MODEL_URL to 'x'")
    assert problems("apps/web/vite.config.js", "if (process.env.VITE_MODEL_URL === 'x') {}\n") == []


# -- which files


def test_the_files_of_the_apps_package_and_above_are_read_and_those_of_its_neighbours_are_not() -> None:
    ours = [
        ".github/actions/setup/action.yml",
        ".github/workflows/a.yml",
        "apps/web/Dockerfile",
        "apps/web/package.json",
        "apps/web/vite.config.mts",
        "deploy/web.Dockerfile",
        "netlify.toml",
        "package.json",
    ]
    others = [
        "apps/other/package.json",
        "apps/other/deep/Dockerfile",
        "apps/web/e2e/package.json",
        "apps/web/e2e/vite.config.ts",
        "apps/web/src/main.ts",
        "docs/workflows/a.yml",
    ]
    assert sorted(build_files_of([*others, *ours], FOLDER)) == ours


@pytest.mark.parametrize(
    "path", [WORKFLOW, "Dockerfile", "package.json", "netlify.toml", "vercel.json", "vite.config.ts"]
)
def test_strange_files_are_no_failure(path: str) -> None:
    for text in (
        "",
        "\0",
        "{",
        "}}}",
        "- " * 3000,
        "'" * 3000,
        "\\" * 99,
        "<<EOF\n" * 99,
        "scripts: [",
        '{"scripts": 1}',
    ):
        assert list(findings(path, text, URL_KEY, (FILE,), FOLDER)) == []
