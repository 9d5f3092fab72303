import Testing

@testable import Replicator

@Suite struct StandbyNamesTests {
    @Test(arguments: [
        "lindero", "near, LINDERO", "*", "\"*\"", "FIRST 2 (near, lindero)", "any 1 (\"Lindero\",near)", "2(near,lindero)", "first\t1 (\n*)",
    ])
    func whoIsNamedOrAnybodyIsMeant(setting: String) { #expect(StandbyNames(setting).mean("Lindero")) }

    @Test(arguments: [
        "", "near", "FIRST 1 (near, far)", "\"my lindero\"", "\"lindero \"", "\"lin\"\"dero\"", "lindero_2", "lindero (near)", "\"lindero, near\"",
    ])
    func nobodyElseIs(setting: String) { #expect(!StandbyNames(setting).mean("lindero")) }

    @Test func namesInQuotesAreTakenAsTheyStand() {
        #expect(StandbyNames("ANY 1 (\"my \"\"own\"\" (1), one\", far)").mean("my \"own\" (1), one"))
    }
}
