"""That each check fails when it should: run by deploy/test.sh --long, or with python3 -m unittest in this folder."""
import json
import os
import tempfile
import types
import unittest

import report
from checks import Held
from clients import Ledger, Onlooker


def held():
    """A database that holds what `ledger` was told."""
    database = Held.__new__(Held)
    database.bookings = {"zd-a-1": 1, "zd-a-2": 1}
    database.leads = {"zd-a-3": 1}
    database.values = {(101, "beds24Status"): "a:9", (102, "crmNotes"): None}
    database.visits = {51: 3}
    database.phones = {1: "+a7"}
    return database


def client():
    ledger = Ledger()
    ledger.writes = [(1.0, 1.1, "lead")]
    ledger.inserted = {"zd-a-1": "Reservas", "zd-a-2": "Reservas", "zd-a-3": "Leads", "zd-a-4": "Reservas"}
    ledger.deleted = {"zd-a-4"}
    ledger.last = {(101, "beds24Status"): "a:9"}
    ledger.counted = {51: 3}
    ledger.phones = {1: {"+a6", "+a7"}}
    return types.SimpleNamespace(ledger=ledger)


class Checks(unittest.TestCase):
    def found(self, database=None, clients=None, **more):
        counts = (database or held()).compare(clients or [client()], **more)
        counts.pop("acknowledged")
        return {key: value for key, value in counts.items() if value}

    def test_what_is_right_is_right(self):
        self.assertEqual(self.found(), {})

    def test_each_fault_is_found(self):
        def fault(change):
            database = held()
            change(database)
            return self.found(database)

        self.assertEqual(fault(lambda d: d.bookings.pop("zd-a-1")), {"lost": 1})
        self.assertEqual(fault(lambda d: d.leads.pop("zd-a-3")), {"lost": 1})
        self.assertEqual(fault(lambda d: d.bookings.update({"zd-a-4": 1})), {"lost": 1})  # a delete
        self.assertEqual(fault(lambda d: d.bookings.update({"zd-a-2": 2})), {"doubled": 1})
        self.assertEqual(fault(lambda d: d.bookings.update({"zd-b-1": 1})), {"unexpected": 1})
        self.assertEqual(fault(lambda d: d.values.update({(101, "beds24Status"): "a:8"})), {"stale": 1})
        self.assertEqual(fault(lambda d: d.visits.update({51: 2})), {"uncounted": 1})
        self.assertEqual(fault(lambda d: d.visits.update({51: 5})), {"uncounted": 2})
        self.assertEqual(fault(lambda d: d.phones.update({1: "+z1"})), {"unexpected": 1})

    def test_a_private_value_on_the_other_side_is_found(self):
        database, one = held(), client()
        one.ledger.last[102, "crmNotes"] = "a:5"
        self.assertEqual(self.found(database, [one], without=["crmNotes"]), {})
        database.values[102, "crmNotes"] = "a:5"
        self.assertEqual(self.found(database, [one], without=["crmNotes"]), {"private": 1})

    def test_an_increment_without_an_answer_may_be_there_or_not(self):
        one = client()
        one.ledger.unsure = {51: 1}
        for visits, expected in ((3, {}), (4, {}), (5, {"uncounted": 2})):
            database = held()
            database.visits[51] = visits
            self.assertEqual(self.found(database, [one]), expected)

    def test_a_slow_write_counts_whenever_it_was(self):
        one = client()
        one.is_direct = False
        one.ledger.writes = [(1.0, 1.01, "lead"), (5.0, 5.4, "own"), (9.0, 9.02, "lead")]
        figures = report.service([one], windows=[(8.5, 9.5)])
        self.assertEqual((figures["longestWriteMilliseconds"], figures["longestWriteDuringMovesMilliseconds"]), (400.0, 20.0))
        onlooker = Onlooker.__new__(Onlooker)
        onlooker.writes = [(5.1, 5.35), (9.0, 9.9)]
        records = [{"from": "replica", "to": "split", "work": "widen_identity", "began": 4.9, "ended": 5.1}]
        slow = report.slowest([one], records, onlooker, count=1)
        self.assertEqual(slow, [dict(milliseconds=400.0, at=5.0, kind="own", works=["replica->split widen_identity"],
                                     onlookerMilliseconds=250.0)])

    def test_a_report_that_was_changed_is_found(self):
        figures = {"failedWrites": 0, "longestWriteMilliseconds": 12.5}
        checks = [dict(name="failed writes of bot", found=0, expected=0, holds=True),
                  dict(name="longest write of bot in the whole run, in ms", found=12.5, expected="< 250", holds=True),
                  dict(name="acknowledged writes a second", found=444, expected=">= 400", holds=True)]
        document = dict(services={"bot": figures}, checks=checks, holds=True)
        document["sha256"] = report.digest(document)

        def verdict(document):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "report.json")
                with open(path, "w") as file:
                    json.dump(document, file, indent=3)
                return report.verify(path)

        self.assertEqual(verdict(document), 0)
        for change in (lambda d: d["services"]["bot"].update(failedWrites=1), lambda d: d.update(holds=False),
                       lambda d: d["checks"][1].update(found=300), lambda d: d["checks"][2].update(found=3)):
            changed = json.loads(json.dumps(document))
            change(changed)
            self.assertEqual(verdict(changed), 1)
            changed["sha256"] = report.digest(changed)  # by somebody who knows how
            self.assertEqual(verdict(changed), 1)


if __name__ == "__main__":
    unittest.main()
