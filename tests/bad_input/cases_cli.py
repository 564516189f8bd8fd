"""Flags, names and arguments that nobody can have meant."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_input.harness import DATA, Case, fmq

_WHOLE = (
    "--num-samples",
    "--checkpoint-freq",
    "--max-episode-steps",
    "--offline-updates",
    "--online-env-steps",
    "--seed",
    "--num-env-runners",
    "--num-learners",
    "--evaluation-interval",
    "--evaluation-episodes",
    "--ray-num-cpus",
    "--ray-num-gpus",
)
_NUMBERS = ("--eta", "--beta", "--num-gpus-per-learner")
_EVALUATE_WHOLE = (
    "--num-candidates",
    "--euler-steps",
    "--beam-width",
    "--search-iters",
    "--branches",
    "--episodes",
    "--seed",
    "--num-workers",
)
_GENERATE_WHOLE = ("--seed", "--num-workers", "--steps", "--episodes")


def cases() -> list[Case]:
    """All of them."""
    return [*_numbers(), *_train(), *_files(), *_evaluate(), *_data(), *_study_and_plot()]


def _numbers() -> Iterator[Case]:
    """Every flag that takes a number, with what is none or out of its range."""
    for flag in _WHOLE:
        for value in ("many", "1.5", "-1"):
            yield Case(f"train {flag} {value}", fmq(flag, value), flag, code=2)
    for flag in _NUMBERS:
        for value in ("much", "nan", "inf", "-1"):
            yield Case(f"train {flag} {value}", fmq(flag, value), flag.split("-")[-1])
    for flag in _EVALUATE_WHOLE:
        for value in ("many", "-1"):
            yield Case(f"evaluate {flag} {value}", ("evaluate", "nowhere", flag, value), flag)
    for flag, value in (("--eta", "-1"), ("--eta", "much"), ("--snr", "loud")):
        yield Case(f"evaluate {flag} {value}", ("evaluate", "nowhere", flag, value), flag)
    for flag in _GENERATE_WHOLE:
        for value in ("many", "-1"):
            arguments = ("data", "generate", "cube-single-play-v0", flag, value)
            yield Case(f"generate {flag} {value}", arguments, flag)
    for flag, value in (
        ("--val-fraction", "2"),
        ("--val-fraction", "-0.1"),
        ("--noise", "-1"),
        ("--goal-fraction", "1.5"),
        ("--goal-fraction", "some"),
    ):
        arguments = ("data", "generate", "cube-single-play-v0", flag, value)
        yield Case(f"generate {flag} {value}", arguments, flag)


def _train() -> Iterator[Case]:
    env = ("--env", "Pendulum-v1")
    own = ("--storage-path", "results")
    for name, arguments, says in (
        ("no such algorithm", ("--algo", "FQM", *env), "'FQM'"),
        ("algorithm in small letters", ("--algo", "fmq", *env), "'FMQ'"),
        ("empty algorithm", ("--algo", "", *env), "''"),
        ("algorithm with a path", ("--algo", "../FMQ", *env), "'../FMQ'"),
        ("no algorithm", env, "--algo is missing"),
        ("no environment", ("--algo", "FMQ"), "--env is missing"),
        ("no value", ("--algo",), "--algo"),
        ("no such flag", ("--etaa", "1"), "--etaa"),
        ("no such short flag", ("-q",), "-q"),
        ("no such command", ("fil", "x.py"), "fil"),
        ("argument too many", ("--algo", "PPO", *env, "more"), "more"),
        ("flags before the file", ("--seed", "1", "file", "x.py"), "go behind the file's name"),
        ("eta of PPO", ("--algo", "PPO", *env, "--eta", "1"), "--eta"),
        ("dataset of SAC", ("--algo", "SAC", *env, "--dataset", DATA), "--dataset"),
        ("phases of DQN", ("--algo", "DQN", *env, "--offline-updates", "3"), "--offline-updates"),
        ("resume nothing", ("--resume",), "--experiment-name"),
        ("resume an unknown run", ("--resume", "-n", "gone"), "'gone'"),
        ("resume with an algorithm", ("--resume", "-n", "x", "--algo", "FMQ"), "--algo"),
        ("resume with a seed", ("--resume", "-n", "x", "--seed", "1"), "--seed"),
        ("resume with a config", ("--resume", "-n", "x", "--config", "{}"), "--config"),
        ("resume from a cloud", ("--resume", "-n", "x", "--storage-path", "s3://b"), "s3://b/x"),
    ):
        storage = () if "file" in arguments else own
        yield Case(name, ("train", *storage, *arguments), says)
    for name, arguments, says in (
        ("restore nothing", ("--restore", "no/checkpoint"), "no/checkpoint"),
        ("restore a dataset", ("--restore", DATA), DATA),
        ("initial nothing", ("--initial-checkpoint", "no/checkpoint"), "no/checkpoint"),
        ("initial dataset", ("--initial-checkpoint", DATA), DATA),
        ("restore and start", ("--restore", ".", "--initial-checkpoint", "."), "no checkpoint in"),
        ("nothing to train", ("--offline-updates", "0", "--online-env-steps", "0"), "nothing"),
        ("online only", ("--offline-updates", "0"), "initial_checkpoint"),
        ("storage in a file", ("--storage-path", f"{DATA}/results"), DATA),
        ("storage is a file", ("--storage-path", DATA), DATA),
        ("storage of no kind", ("--storage-path", "nocloud://bucket"), "nocloud"),
        ("empty experiment name", ("-n", ""), "--experiment-name"),
        ("experiment elsewhere", ("-n", "../up"), "../up"),
        ("experiment in a folder", ("-n", "a/b"), "a/b"),
        ("too few CPUs", ("--ray-num-cpus", "1", "--num-learners", "2"), "--ray-num-cpus 1"),
        ("large seed", ("--seed", "1000000000"), "1000000000"),
        ("filter key of an npz", ("--filter-key", "train"), "'train'"),
        ("success_fn of no module", ("--success-fn", "gone_away:solved"), "gone_away"),
        ("success_fn without colon", ("--success-fn", "solved"), "'solved'"),
        ("success_fn that is a module", ("--success-fn", "math:"), "'math:'"),
        ("success_fn that is a number", ("--success-fn", "math:pi"), "math:pi"),
        ("no env steps", ("--max-episode-steps", "0"), "--max-episode-steps"),
        ("stop: no JSON", ("--stop", "soon"), "--stop"),
        ("stop: half", ("--stop", '{"training_iteration": '), "--stop"),
        ("stop: a list", ("--stop", "[1]"), "--stop"),
        ("stop: a text", ("--stop", '{"training_iteration": "soon"}'), "'soon'"),
        ("stop: at once", ("--stop", '{"done": false}'), "'done' is False"),
        ("stop: endless", ("--stop", f'{{"num_updates": 1{"0" * 400}}}'), "num_updates"),
        ("stop: NaN", ("--stop", '{"training_iteration": NaN}'), "training_iteration"),
        ("stop: null", ("--stop", '{"training_iteration": null}'), "training_iteration"),
        ("config: no file", ("--config", "gone.json"), "gone.json"),
        ("config: a folder", ("--config", "."), "--config"),
        ("config: no object", ("--config", "{1}"), "--config"),
        ("config: half", ("--config", '{"eta": '), "--config"),
        ("config: twice", ("--config", '{"eta": 1}{}'), "--config"),
        ("config: a dataset", ("--config", DATA), DATA),
        ("config: empty", ("--config", ""), "--config"),
        ("config: deep", ("--config", '{"eta": ' + "[" * 5000), "--config"),
    ):
        yield Case(name, fmq(*arguments), says)
    named = {"results/mine/precious": "x"}
    yield Case("experiment is there", fmq("-n", "mine"), "'mine'", named)
    yield Case("config: list in a file", fmq("--config", "c.json"), "c.json", {"c.json": "[1, 2]"})
    yield Case("config: Latin-1", fmq("--config", "c.json"), "c.json", {"c.json": b'{"\xe4": 1}'})
    yield Case("config: null bytes", fmq("--config", "c.json"), "c.json", {"c.json": b"\0" * 40})


def _files() -> Iterator[Case]:
    """Python files of settings."""
    file = ("train", "file", "settings.py")
    ours = "from rllib_fmq import FMQConfig\nconfig = FMQConfig().environment('Pendulum-v1')\n"
    for name, content, says in (
        ("no config", "x = 1\n", "`config`"),
        ("config of no kind", "config = 3\n", "`config` = 3"),
        ("config class", "from rllib_fmq import FMQConfig as config\n", "`config`"),
        (
            "no algorithm",
            "from ray.rllib.algorithms.algorithm_config import AlgorithmConfig\n"
            "config = AlgorithmConfig()\n",
            "names no algorithm",
        ),
        ("missing import", "import nothing_like_this\n", "nothing_like_this"),
        ("exit", "raise SystemExit(3)\n", "settings.py failed"),
        ("exception", "1 / 0\n", "ZeroDivisionError"),
        ("syntax", "config = (\n", "settings.py"),
        ("null bytes", "\0\0", "settings.py"),
        ("Latin-1", b"x = '\xe4'\n", "settings.py"),
        ("stop of no kind", ours + "stop = 3\n", "`stop` is 3"),
        ("stop of texts", ours + "stop = {'training_iteration': 'soon'}\n", "'soon'"),
        ("samples of no kind", ours + "num_samples = 'many'\n", "'many'"),
        ("negative samples", ours + "num_samples = -2\n", "-2"),
        ("tune_config of no kind", ours + "tune_config = 3\n", "`tune_config` is 3"),
        ("unknown argument", ours + "config.training(etaa=1)\n", "etaa"),
        ("unknown attribute", ours + "config.etaa = 1\n", "etaa"),
        ("wrong value", ours + "config.training(eta=-1)\n", "eta=-1"),
    ):
        arguments = (*file, "--dataset", DATA, "--storage-path", "results")
        yield Case(f"file: {name}", arguments, says, {"settings.py": content})
    yield Case("file: not there", ("train", "file", "gone.py"), "gone.py")
    yield Case("file: a folder", ("train", "file", "."), ".: no such file")
    yield Case("file: not Python", ("train", "file", DATA), DATA)
    yield Case("file: no name", ("train", "file"), "FILE")


def _evaluate() -> Iterator[Case]:
    for name, arguments, says in (
        ("no checkpoint", (), "CHECKPOINT"),
        ("nowhere", ("nowhere",), "nowhere"),
        ("a file", (DATA,), DATA),
        ("an empty folder", ("empty",), "empty"),
        ("no such selector", ("empty", "--selector", "qgsb"), "qgsb"),
        ("a film of no kind", ("empty", "--video", "film.gif"), "film.gif"),
        ("a strip of no kind", ("empty", "--strip", "strip.jpg"), "strip.jpg"),
        ("output is a folder", ("empty", "-o", "empty"), "empty"),
        ("no such flag", ("empty", "--episode", "3"), "--episode"),
        ("two checkpoints", ("empty", "empty"), "empty"),
    ):
        yield Case(f"evaluate: {name}", ("evaluate", *arguments), says, {"empty/.keep": ""})


def _data() -> Iterator[Case]:
    for name, arguments, says in (
        ("no such command", ("inf", DATA), "inf"),
        ("info of nothing", ("info",), "PATH"),
        ("info: not there", ("info", "gone.npz"), "gone.npz"),
        ("info: no Minari set", ("info", "minari:gone/away-v0"), "gone/away-v0"),
        ("info: no Minari name", ("info", "minari:"), "'' is no Minari"),
        ("convert: not there", ("convert", "gone.npz", "new.npz"), "gone.npz"),
        ("convert: one name", ("convert", DATA), "OUT"),
        ("convert: no format", ("convert", DATA, "new.txt"), "new.txt"),
        ("convert: into itself", ("convert", DATA, DATA, "--overwrite"), DATA),
        ("convert: is there", ("convert", DATA, "old.npz"), "old.npz"),
        ("convert: folder there", ("convert", DATA, "kept.columns", "--overwrite"), "kept.columns"),
        ("convert: into a file", ("convert", DATA, "old.npz/new.npz"), "old.npz"),
        ("convert: a key", ("convert", DATA, "new.npz", "--filter-key", "best"), "'best'"),
        ("convert: no task", ("convert", "old.npz", "new.npz"), "old.npz"),
        ("download: no task", ("download", "cube-dbl-t9"), "'cube-dbl-t9'"),
        ("download: a path", ("download", "../../etc"), "'../../etc'"),
        ("download: no address", ("download", "cube-dbl-t3", "--mirror", "ftp://x"), "ftp://x"),
        ("download: bad port", ("download", "can", "--mirror", "http://h:x/"), "http://h:x/"),
        ("download: no digest", ("download", "can", "--sha256", "12"), "'12'"),
        ("download: offline", ("download", "can", "--data-dir", "new"), "RLLIB_FMQ_OFFLINE"),
        ("download: dir is a file", ("download", "can", "--data-dir", DATA), DATA),
        ("generate: no task", ("generate", "cube-singel-play-v0"), "'cube-singel-play-v0'"),
        ("generate: Gymnasium", ("generate", "Pendulum-v1"), "'Pendulum-v1'"),
        ("generate: steps of can", ("generate", "can", "--steps", "9"), "--steps"),
        ("generate: demos of cubes", ("generate", "cube-dbl-t3", "--episodes", "9"), "--episodes"),
        ("generate: no demonstrator", ("generate", "transport"), "'transport'"),
        ("generate: all valid", ("generate", "can", "--val-fraction", "1"), "val_fraction"),
        ("generate: is there", ("generate", "cube-dbl-t3", "-o", "old.npz"), "old.npz"),
        ("generate: no format", ("generate", "cube-dbl-t3", "-o", "new.txt"), "new.txt"),
        ("generate: NaN", ("generate", "cube-dbl-t3", "--noise", "nan"), "--noise"),
        ("generate: endless", ("generate", "cube-dbl-t3", "--noise", "inf"), "inf"),
        (
            "generate: needs a policy",
            ("generate", "antmaze-giant-navigate-v0", "-o", "new.npz"),
            "policy",
        ),
        (
            "generate: no policy",
            ("generate", "antmaze-giant-navigate-v0", "--policy", "gone.npz"),
            "gone.npz",
        ),
        (
            "generate: a dataset for a policy",
            ("generate", "antmaze-giant-navigate-v0", "--policy", DATA),
            DATA,
        ),
    ):
        files = {"old.npz": "old", "kept.columns/other.txt": "kept"}
        yield Case(f"data: {name}", ("data", *arguments), says, files)


_STUDY = """
from rllib_fmq.studies import Method, Setting, Study, StudyTask
study = Study(
    name={name}, tasks={tasks}, methods={methods}, seeds={seeds}, settings={settings}, **{more}
)
"""


def _study_and_plot() -> Iterator[Case]:
    good = {
        "name": "'tiny'",
        "tasks": "[StudyTask('Pendulum-v1', dataset='data.npz')]",
        "methods": "[Method('FMQ')]",
        "seeds": "[0]",
        "settings": "[]",
        "more": "{}",
    }
    for name, change, says in (
        ("name", {"name": "'../up'"}, "'../up'"),
        ("no task", {"tasks": "[]"}, "tasks"),
        ("a task of no kind", {"tasks": "['can']"}, "'can'"),
        ("unknown task", {"tasks": "[StudyTask('cube-singel-play-v0')]"}, "cube-singel-play-v0"),
        ("no method", {"methods": "[]"}, "methods"),
        ("unknown method", {"methods": "[Method('FQM')]"}, "FQM"),
        ("twice", {"methods": "[Method('FMQ'), Method('FMQ')]"}, "'FMQ' twice"),
        ("no seeds", {"seeds": "[]"}, "seeds=[]"),
        ("negative seeds", {"seeds": "[-1]"}, "seeds=[-1]"),
        ("seeds of no kind", {"seeds": "3"}, "seeds=3"),
        ("same seeds", {"seeds": "[1, 1]"}, "seeds=[1, 1]"),
        ("key", {"more": "{'config': {'etaa': 1}}"}, "etaa"),
        ("value", {"more": "{'config': {'eta': -1}}"}, "eta=-1"),
        ("env in config", {"more": "{'config': {'env': 'can'}}"}, "'env'"),
        ("config of no kind", {"more": "{'config': 3}"}, "config=3"),
        ("scale", {"more": "{'scale': 'large'}"}, "'large'"),
        ("episodes", {"more": "{'final_episodes': 0}"}, "final_episodes=0"),
        ("interval", {"more": "{'checkpoint_interval': 1.5}"}, "checkpoint_interval=1.5"),
        ("cpus", {"more": "{'cpus_per_trial': 0}"}, "cpus_per_trial=0"),
        ("NaN cpus", {"more": "{'cpus_per_trial': float('nan')}"}, "cpus_per_trial=nan"),
        ("scheduler", {"more": "{'scheduler': 'asha'}"}, "'asha'"),
        ("setting", {"settings": "[Setting('a', {'eta': 'x'})]"}, "eta='x'"),
        ("setting's method", {"settings": "[Setting('a', {}, methods=['X'])]"}, "'X'"),
        ("selector", {"methods": "[Method('FMQ', final_selectors=('best',))]"}, "'best'"),
    ):
        content = _STUDY.format(**{**good, **change})
        arguments = ("study", "run", "study.py", "--dry-run")
        yield Case(f"study: {name}", arguments, says, {"study.py": content})
    study = {"study.py": _STUDY.format(**good)}
    for name, arguments, says in (
        ("file", ("run", "gone.py"), "gone.py"),
        ("folder of data", ("run", "study.py", "--dataset-dir", "gone"), "gone"),
        ("output is a file", ("run", "study.py", "-o", DATA), DATA),
        ("no such trial", ("run", "study.py", "--only", "task9", "--dry-run"), "task9"),
        ("report of nothing", ("report", "gone"), "gone"),
        ("report of a dataset", ("report", DATA), DATA),
        ("report of an empty folder", ("report", "empty"), "empty"),
        ("report of a damaged table", ("report", "results.csv"), "results.csv"),
    ):
        files = {**study, "empty/.keep": "", "results.csv": "\0\0\0"}
        yield Case(f"study: {name}", ("study", *arguments), says, files)
    row = '{"training_iteration": 1}\n'
    for name, arguments, says in (
        ("nothing", (), "RESULTS"),
        ("not there", ("gone",), "gone"),
        ("empty folder", ("empty",), "empty"),
        ("no iteration", ("fresh",), "fresh"),
        ("damaged", ("damaged",), "line 1"),
        ("rows of no kind", ("lists",), "lists"),
        ("picture of no kind", ("good", "-o", "curves.txt"), "curves.txt"),
        ("picture is a folder", ("good", "-o", "empty"), "empty"),
        ("picture in a file", ("good", "-o", f"{DATA}/curves.png"), DATA),
        ("no text", ("binary",), "binary"),
    ):
        files = {
            "empty/.keep": "",
            "fresh/result.json": "",
            "damaged/result.json": "{]\n" + row,
            "lists/result.json": "[1]\n[2]\n",
            "good/result.json": row * 3,
            "binary/result.json": b"\xff\xfe\x00" + row.encode(),
        }
        yield Case(f"plot: {name}", ("plot", *arguments), says, files)
