import Testing

@testable import Replicator

/// Which columns a trigger writes, read from its text alone.
@Suite struct TriggerWritesTests {
    private func columns(_ body: String) -> Set<String> {
        TriggerWrites.columns(
            of: SplitTableFacts.Trigger(name: "t", function: "f", language: "plpgsql", body: body, arguments: []))
    }

    @Test func assignmentsAreFoundInEverySpelling() {
        #expect(columns("BEGIN NEW.status := 'x'; RETURN NEW; END") == ["status"])
        #expect(columns("BEGIN new.Status = 1; RETURN NEW; END") == ["status"])
        #expect(columns("BEGIN NEW . \"beds24Status\" := 1; END") == ["beds24Status"])
        #expect(columns("BEGIN IF a THEN NEW.x = 1; ELSE NEW.y = 2; END IF; END") == ["x", "y"])
        #expect(columns("BEGIN SELECT v INTO NEW.z FROM t; END") == ["z"])
        #expect(columns("BEGIN NEW.\"odd\"\"name\" := 1; END") == ["odd\"name"])
    }

    @Test func comparisonsCommentsAndStringsAreNoAssignments() {
        #expect(columns("BEGIN IF NEW.status = 'x' THEN RETURN NULL; END IF; RETURN NEW; END") == [])
        #expect(columns("BEGIN -- NEW.a := 1;\n /* NEW.b := 2; */ v := 'NEW.c := 3'; RETURN NEW; END") == [])
        #expect(columns("BEGIN v := NEW.d; w := renew.e; RETURN NEW; END") == [])
        #expect(columns("BEGIN /* never closed NEW.f := 1") == [])
        #expect(columns("BEGIN v := 'never closed; NEW.g := 1") == [])
    }

    @Test func PostgreSQLsOwnFunctionsNameTheirColumn() {
        func trigger(_ language: String, _ function: String, _ arguments: [String]) -> Set<String> {
            TriggerWrites.columns(
                of: SplitTableFacts.Trigger(name: "t", function: function, language: language, body: "", arguments: arguments))
        }
        #expect(trigger("c", "moddatetime", ["updatedAt"]) == ["updatedAt"])
        #expect(trigger("internal", "tsvector_update_trigger", ["search", "pg_catalog.english", "title"]) == ["search"])
        #expect(trigger("c", "autoinc", ["id", "s1", "no", "s2"]) == ["id", "no"])
        #expect(trigger("c", "something", ["id"]) == [])
        #expect(trigger("c", "moddatetime", []) == [])
    }
}
