import TestSupport
import Testing

@testable import lindero

/// Whoever names the configuration with `--config` can carry out the next command as it is printed.
@Suite struct NamedConfigurationTests {
    @Test(arguments: [
        ("Next: lindero run", "Next: lindero run --config a.yaml"),
        ("Next: lindero quarantine list --all", "Next: lindero quarantine list --config a.yaml --all"),
        ("mend it, then `lindero check`, and lindero advance --to split --execute.",
            "mend it, then `lindero check --config a.yaml`, and lindero advance --config a.yaml --to split --execute."),
        ("Run lindero status to see it", "Run lindero status --config a.yaml to see it"),
        // Nothing twice, and no words that are none.
        ("Next: lindero check --config b.yaml", "Next: lindero check --config b.yaml"),
        ("Next: lindero quarantine list --config b.yaml", "Next: lindero quarantine list --config b.yaml"),
        ("stop the lindero process; see lindero.yaml", "stop the lindero process; see lindero.yaml"),
        ("`lindero version` there", "`lindero version` there"),
    ])
    func commandsNameIt(text: String, named: String) {
        #expect(NamedConfiguration("a.yaml").naming(text) == named)
        #expect(NamedConfiguration(nil).naming(text) == text)
    }

    @Test func aPathIsQuotedForTheShell() {
        #expect(NamedConfiguration("my hotel's.yaml").naming("lindero run") == "lindero run --config 'my hotel'\\''s.yaml'")
    }

    @Test func theProgramDoes() async throws {
        let folder = try ConfigurationFolder("version: 1\nbackend: nonsense\n")
        let outcome = try await LinderoProcess.run(["check", "--config", folder.path + "/lindero.yaml"], environment: [:], folder: "/")
        #expect(outcome.exitCode == 2 && outcome.errors.contains("lindero check --config \(folder.path)/lindero.yaml"), "\(outcome.errors)")
    }
}
