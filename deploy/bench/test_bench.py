"""That deploy/bench.sh counts what it says it counts: run by deploy/test.sh, or with python3 -m unittest in this folder.
With LINDERO_BIN=PROGRAM two small measurements, too, of which one has somebody else write to the target (deploy/test.sh --long)."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

import bench
import report
from clusters import Failed
from figures import Entry, is_quiet, quantities
from measurement import compare, rounds

HERE = os.path.dirname(os.path.abspath(__file__))


def run(peer, seconds, number=1, **more):
    return dict(dict(peer=peer, run=number, verified=True, transactions=10, changes=1000, seconds=seconds, wholeSeconds=seconds,
                     startSeconds=0.1, capacityCpuSeconds=2 * seconds, foreignCpuSeconds=0.0,
                     cpuSeconds=dict(walsender=0.1, target=0.2, worker=0.001)), **more)


def oltp(runs, key="oltp"):
    return Entry(key, dict(name="W1 OLTP (pgbench)", size="some", date="2026-01-01", commit="abc", runs=runs,
                            machine=dict(cpu="one", cores=2, memoryGiB=1, system="Linux", postgresql="15")))


def results(runs):
    entry = oltp(runs)
    return dict(scale="full", workloads=dict(oltp=entry.data))


class Figures(unittest.TestCase):
    def speeds(self, runs):
        entry = oltp(runs)
        quantity = quantities("oltp")[0]
        return entry, quantity, entry.speeds(quantity)

    def test_medians_with_the_least_and_the_most_and_ratios_to_the_better_native(self):
        entry, quantity, speeds = self.speeds(
            [run("lindero", seconds, number) for number, seconds in enumerate((1.0, 4.0, 2.0), 1)]
            + [run("native", 5.0), run("native-binary", 4.0)])
        self.assertEqual((speeds["lindero"].median, speeds["lindero"].least, speeds["lindero"].most), (500, 250, 1000))
        self.assertEqual(entry.reference(speeds, quantity), "native-binary")
        self.assertEqual(entry.ratio(speeds, quantity, "lindero"), 2.0)

    def test_a_run_whose_tables_differ_does_not_count(self):
        record = run("lindero", 0.001)
        compare(record, {"t": ("2", "77"), "u": ("1", "5")}, {"t": ("2", "78"), "u": ("1", "5")})
        self.assertEqual((record["verified"], record["different"]), (False, True))
        self.assertIn("t: ('2', '77') became ('2', '78')", record["problem"])
        _, _, speeds = self.speeds([record, run("lindero", 2.0, 2), run("native", 4.0)])
        self.assertEqual((speeds["lindero"].median, speeds["lindero"].count), (500, 1))
        text = report.text(results([record, run("lindero", 2.0, 2), run("native", 4.0)]))
        self.assertIn("not counted: lindero run 1: t:", text)
        # Nor does a table that is missing, or one too many.
        for found in ({}, {"t": ("2", "77"), "v": ("0", "0")}):
            record = run("lindero", 1.0)
            compare(record, {"t": ("2", "77")}, found)
            self.assertFalse(record["verified"])
        record = run("lindero", 1.0)
        compare(record, {"t": ("2", "77")}, {"t": ("2", "77")})
        self.assertTrue(record["verified"])

    def test_a_noisy_run_has_no_speed_and_keeps_its_cpu(self):
        noisy = run("lindero", 0.5, 2, foreignCpuSeconds=0.2)
        self.assertFalse(is_quiet(noisy))
        entry, _, speeds = self.speeds([run("lindero", 1.0), noisy, run("native", 4.0)])
        self.assertEqual(speeds["lindero"].count, 1)
        self.assertEqual(len(entry.of("lindero", entry.counted)), 2)
        _, _, speeds = self.speeds([noisy, run("native", 4.0)])
        self.assertNotIn("lindero", speeds)

    def test_marks_are_held_or_not(self):
        def held(seconds):
            return {what: whether for _, what, _, _, whether, _ in report.marks(results([run("lindero", seconds), run("native", 2.5)]))}

        self.assertTrue(held(1.0)["changes/s ÷ the better native"])
        self.assertFalse(held(1.01)["changes/s ÷ the better native"])
        self.assertTrue(held(1.0)["worker CPU, µs/change"])
        costly = run("lindero", 1.0, cpuSeconds=dict(walsender=0.1, target=0.2, worker=0.0016))
        whether = {what: held for _, what, _, _, held, _ in report.marks(results([costly, run("native", 2.5)]))}
        self.assertFalse(whether["worker CPU, µs/change"])

    def test_where_others_are_better_is_told(self):
        ahead = list(report.faster(results([run("lindero", 4.0), run("native", 2.0)])))
        self.assertTrue(any("native subscription has 500" in line for line in ahead), ahead)

    def test_peers_take_turns_and_one_that_fails_leaves_the_others_theirs(self):
        asked = []

        def one(name):
            asked.append(name)
            if name == "native":
                raise Failed("it did not start")
            return dict(verified=True)

        records = list(rounds(["lindero", "native"], 2, one, changes=5))
        self.assertEqual([record["peer"] for record in records], ["lindero", "native", "lindero", "native"])
        self.assertEqual([record["verified"] for record in records], [True, False, True, False])
        self.assertEqual(records[1]["problem"], "it did not start")
        self.assertEqual(asked, ["lindero", "lindero", "native", "lindero", "native"], "the first warms the machine up")

    def test_what_goes_wrong_while_the_machine_is_warmed_up_is_told(self):
        results = iter([dict(verified=False, different=True), dict(verified=True)])
        records = list(rounds(["lindero"], 1, lambda name: next(results)))
        self.assertEqual([(record["run"], record["verified"]) for record in records], [(0, False), (1, True)])

    def test_the_page_the_chart_and_the_document_are_written(self):
        with tempfile.TemporaryDirectory() as folder:
            readme = os.path.join(folder, "README.md")
            with open(readme, "w") as file:
                file.write(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
            report.write(results([run("lindero", 1.0), run("native", 2.0)]), folder)
            with open(readme) as file:
                page = file.read()
            self.assertTrue(page.startswith("before\n") and page.endswith("after\n") and "old" not in page)
            self.assertIn("| Lindero | changes/s | 1,000 | 2.00 × |", page)
            with open(os.path.join(folder, "results.json")) as file:
                self.assertEqual(json.load(file)["workloads"]["oltp"]["runs"][0]["seconds"], 1.0)
            chart = xml.dom.minidom.parse(os.path.join(folder, "chart.svg"))
            words = "".join(node.firstChild.data for node in chart.getElementsByTagName("text") if node.firstChild)
            self.assertIn("Lindero", words)

    def test_the_committed_page_is_what_its_figures_say(self):
        with open(os.path.join(HERE, "results.json")) as file:
            figures = report.markdown(json.load(file))
        with open(os.path.join(HERE, "README.md")) as file:
            self.assertIn(figures, file.read(), "deploy/bench.sh --draw writes it anew")

    def test_what_is_no_workload_and_no_peer_is_refused(self):
        for arguments in (["W9"], ["W1", "--peers", "oracle"], ["W1", "--runs", "0"]):
            done = subprocess.run([sys.executable, os.path.join(HERE, "bench.py"), *arguments], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, done.stderr)


@unittest.skipUnless(os.environ.get("LINDERO_BIN"), "LINDERO_BIN names no program")
class Measured(unittest.TestCase):
    def measure(self, lindero, *arguments):
        """The exit code, the document and what was printed of a small measurement."""
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, os.path.join(HERE, "bench.py"), "--lindero", lindero, "--scale", "small", "--out", folder,
                 *arguments], capture_output=True, text=True)
            with open(os.path.join(folder, "results.json")) as file:
                return done.returncode, json.load(file), done.stdout + done.stderr

    def test_runs_in_turn_and_equal_after(self):
        code, document, said = self.measure(os.environ["LINDERO_BIN"], "oltp", "--peers", "native", "--runs", "2")
        self.assertEqual(code, 0, said)
        runs = document["workloads"]["oltp"]["runs"]
        self.assertEqual([one["peer"] for one in runs], ["lindero", "native", "lindero", "native"])
        self.assertTrue(all(one["verified"] and one["seconds"] > 0 for one in runs), runs)

    def test_a_target_that_somebody_else_wrote_to_is_no_result(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            meddler = os.path.join(folder, "meddler")
            with open(meddler, "w") as file:
                file.write("#!/bin/bash\n" 'if [ "$1" = run ]; then for i in "$@"; do [ "$last" = --target ] && '
                           'psql -Xqc "INSERT INTO pgbench_branches VALUES (100000, 0)" "$i"; last=$i; done; fi\n'
                           f'exec {os.environ["LINDERO_BIN"]} "$@"\n')
            os.chmod(meddler, 0o755)
            code, document, said = self.measure(meddler, "oltp", "--peers", "native", "--runs", "1")
        self.assertEqual(code, 3, said)
        warming, lindero, native = document["workloads"]["oltp"]["runs"]
        self.assertEqual(warming["run"], 0)
        for one in (warming, lindero):
            self.assertTrue(one["different"] and not one["verified"], said)
        self.assertTrue(native["verified"], said)
        self.assertIn("NOT COUNTED: pgbench_branches", said)
        entry = Entry("oltp", document["workloads"]["oltp"])
        self.assertNotIn("lindero", entry.speeds(quantities("oltp")[0]))


class Peers(unittest.TestCase):
    def test_every_workload_has_lindero_and_the_peers_that_can_do_it(self):
        for key, make in bench.workloads.ALL.items():
            there = bench.taking_part(make(True), bench.PEERS)
            self.assertEqual(there[0], "lindero")
            self.assertEqual("pgcopydb" in there, key == "copy", key)
            self.assertEqual("native" in there, not key.startswith("decode"), key)


if __name__ == "__main__":
    unittest.main()
