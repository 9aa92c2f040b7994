"""How fast every synthetic task is generated, per core and end to end. Run by hand; asserts nothing.

    python tests/benchmarks/generation.py

Per core: sampling, solving, hashing and writing compressed Parquet in one thread, by the process's CPU clock, which
other jobs disturb least. For comparison the same run measures a plain-Python generator of the same task, which like
the paper's draws row by row, writes lists as text and drops repeated texts. `paper` is the speed of the paper's own
generator, measured on the developers' machine. End to end: one million examples of Set through `raysynth generate`,
including Ray's start, and the largest memory of any of its processes.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from raysynth import InputError, synthetic_tasks
from raysynth.data.duplicates import row_hashes
from raysynth.data.shard_files import shard_bytes
from raysynth.synthetic.simple import simple_tasks
from tests.synthetic.test_simple import brute

PAPER = {
    "identity": 21_825,
    "set": 11_151,
    "sort": 8_893,
    "union": 17_220,
    "delete": 14_115,
    "longest_word": 9_379,
    "lime": 6_180,
    "nonsense_summary": 289,
}
"""Examples per second of the paper's generator, text and duplicates included; the median of its 18 tasks is 18,100."""


# ------------------------------------------------------------------------------------------------ a plain generator

POOL = range(2, 32_000)


def parts(rng, total, count):
    cuts = sorted(rng.sample(range(1, total), count - 1))
    return [end - start for start, end in zip([0, *cuts], [*cuts, total], strict=True)]


def runs(rng, length):
    count = rng.randint(1, length - 1)
    return [
        token
        for token, times in zip(rng.choices(POOL, k=count), parts(rng, length, count), strict=True)
        for _ in range(times)
    ]


def shuffled(rng, row):
    rng.shuffle(row)
    return row


def plain(task, rng):
    """One input of a task of Appendix G, drawn as a simple script would draw it."""
    cut = task.tokens.separator
    length = rng.randint(task.min_length, task.max_length)
    match task.name:
        case "set":
            return shuffled(rng, runs(rng, length))
        case "deduplicate":
            return runs(rng, length)
        case "sort":
            count = rng.randint(1, (length - 2) // 2)
            order = rng.sample(POOL, count)
            sizes = parts(rng, length - 1 - count, count)
            first = [token for token, times in zip(order, sizes, strict=True) for _ in range(times)]
            return [*shuffled(rng, first), cut, *order]
        case "union" | "intersect" | "set1_minus_set2" | "set2_minus_set1":
            pool = rng.sample(POOL, (length - 1) // 2)
            first = rng.randint(1, length - 2)
            return [*rng.choices(pool, k=first), cut, *rng.choices(pool, k=length - 1 - first)]
        case "delete" | "search":
            second = rng.choices(POOL, k=rng.randint(1, length // 2 - 1))
            first = rng.choices(POOL, k=length - 1 - len(second))
            if rng.random() < 0.75:
                place = rng.randint(0, len(first) - len(second))
                first[place : place + len(second)] = second
            return [*first, cut, *second]
        case "replace":
            first = rng.choices(POOL, k=length - 3)
            return [*first, cut, rng.choice(first), rng.choice(POOL)]
        case "longest_word":
            words = rng.randint(1, (length + 1) // 2)
            row = []
            for size in parts(rng, length - words + 1, words):
                row += [task.tokens.word_separator, *rng.choices(POOL, k=size)]
            return row[1:]
        case "count":
            token = rng.choice(POOL)
            times = rng.randint(0, length - 2)
            return [*shuffled(rng, [token] * times + rng.choices(POOL, k=length - 2 - times)), cut, token]
        case _:
            return rng.choices(POOL, k=length)


def plain_speed(task, count, file):
    """Examples per CPU second of the plain generator, and its bytes per example."""
    rng, seen, lines = random.Random(0), set(), []
    started = time.process_time()
    for _ in range(count):
        row = plain(task, rng)
        source = str(row)
        if source not in seen:
            seen.add(source)
            lines.append(f"{source}\t{list(map(int, brute(task, row)))}\n")
    file.write_text("".join(lines))
    return count / (time.process_time() - started), file.stat().st_size / count


# ------------------------------------------------------------------------------------------------ raysynth


def speed(task, count, seconds, file):
    """Examples and tokens per CPU second, and bytes per example, of shards of `count` examples."""
    examples = tokens = size = shard = 0
    spent = 0.0
    while spent < seconds:
        started = time.process_time()
        sources, targets = task.draw(np.random.default_rng([0, shard]), count)
        hashes = row_hashes(sources)
        np.unique(hashes, return_index=True)
        file.write_bytes(shard_bytes(sources, targets))
        spent += time.process_time() - started
        shard, examples = shard + 1, examples + count
        tokens += len(sources.values) + len(targets.values)
        size += file.stat().st_size
    return examples / spent, tokens / spent, size / examples


def end_to_end(count):
    """Wall seconds of `raysynth generate set`, and the largest memory of one of its processes in MiB."""
    with tempfile.TemporaryDirectory() as store:
        command = ["generate", "set", "--num-examples", str(count), "--store", store]
        started, largest = time.monotonic(), 0
        process = subprocess.Popen([sys.executable, "-m", "raysynth.cli", *command], stdout=subprocess.DEVNULL)
        while True:
            for running in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                try:
                    largest = max(largest, running.memory_info().rss - running.memory_info().shared)
                except psutil.NoSuchProcess:
                    continue
            try:
                process.wait(0.5)  # polling ten times a second would take a tenth of a core
                break
            except subprocess.TimeoutExpired:
                continue
        return time.monotonic() - started, largest / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU seconds for each task")
    parser.add_argument("--end-to-end", type=int, default=1_000_000, metavar="N", help="0 skips it")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    table = Table(title="per core, end to end")
    for column in ("task", "examples/s", "M tokens/s", "bytes", "plain ex/s", "ratio", "text/ours", "paper", "ratio"):
        table.add_column(column, justify="left" if column == "task" else "right")
    simple, ratios = [], []
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "shard"
        for name, task in synthetic_tasks.items():
            try:
                speed(task, 100, 0.1, file)  # compiles
            except InputError as error:
                print(f"{name} is skipped: {error}")
                continue
            ours, tokens, size = speed(task, 10_000, options.seconds, file)
            row = [name, f"{ours:,.0f}", f"{tokens / 1e6:.0f}", f"{size:.0f}"]
            if name not in simple_tasks:
                row += ["", "", ""]
            else:
                reference, text_size = plain_speed(task, 2_000, file)
                row += [f"{reference:,.0f}", f"{ours / reference:.1f}", f"{text_size / size:.2f}"]
                simple.append(ours)
                ratios.append(ours / reference)
            row += [f"{PAPER[name]:,}", f"{ours / PAPER[name]:.1f}"] if name in PAPER else ["", ""]
            table.add_row(*row)
    Console(width=110).print(table)
    print(f"ratio to plain Python over {len(ratios)} tasks: median {np.median(ratios):.1f}, least {min(ratios):.1f}")
    print(f"median {np.median(simple):,.0f} examples/s, {np.median(simple) / 18_100:.1f} times the paper's median")
    if options.end_to_end:
        seconds, memory = end_to_end(options.end_to_end)
        print(f"raysynth generate set, {options.end_to_end:,} examples: {seconds:.1f} s, at most {memory:.0f} MiB each")


if __name__ == "__main__":
    main()
