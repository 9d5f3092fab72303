import Foundation
import Glibc
import PostgresClient
import TestSupport
import Testing

/// Counts threads and descriptors in a process of its own, so that all that is counted is ours: the first test starts
/// this very program again, for the second test alone. (Exit tests of swift-testing would do, but their monitor never
/// comes to an end beside children that nobody waits for, such as the keepers of removed clusters.)
@Suite struct LeakTests {
    static let variable = "LINDERO_TEST_LEAKS_CONNINFO"
    static let conninfo = ProcessInfo.processInfo.environment[variable]

    @Test(.enabled(if: conninfo == nil))
    func connectionsLeaveNoThreadsAndNoDescriptors() async throws {
        let database = try await TestDatabase()
        var environment = ProcessInfo.processInfo.environment
        environment[Self.variable] = database.conninfo
        let name = "countsAreBackWhereTheyWere"
        let cluster = try await PostgresCluster.shared()
        let child = try ChildProcess(
            try #require(CommandLine.arguments.first),
            ["--testing-library", "swift-testing", "--filter", "LeakTests/\(name)"], environment: environment,
            folder: cluster.folder + "/leaks")
        child.closeInput()
        let exitCode = try await child.wait(timeoutSeconds: 120)
        let output = child.output + child.errors
        #expect(exitCode == 0, "\(output)")
        #expect(output.contains("Test \(name)() passed"), "\(output)")
    }

    @Test(.enabled(if: conninfo != nil))
    func countsAreBackWhereTheyWere() async throws {
        let conninfo = try #require(Self.conninfo)
        let hole = try BlackHole()
        // Whatever Swift and libpq keep for good is there after the first rounds.
        for _ in 0..<5 { try await everyWayToEnd(conninfo, hole) }
        let (descriptors, threads) = (descriptorCount(), threadCount())
        try await expectOpenConnectionsAreCounted(conninfo)
        for _ in 0..<20 { try await everyWayToEnd(conninfo, hole) }
        try await waitUntil("no more than \(descriptors) descriptors are open") { descriptorCount() <= descriptors }
        // Swift's own pool comes and goes by a few; a leak would be a thread a connection.
        try await waitUntil("about \(threads) threads run") { threadCount() <= threads + 8 }
        #expect(descriptorCount() <= descriptors)
    }
}

/// What is counted is really there. (A function of its own: the connections let go of their descriptors at its end.)
private func expectOpenConnectionsAreCounted(_ conninfo: String) async throws {
    let (descriptors, threads) = (descriptorCount(), threadCount())
    var open: [PostgresConnection] = []
    for _ in 0..<20 { open.append(try await PostgresConnection.connect(ConnectionOptions(conninfo))) }
    // Two and one for each, less what the rounds before are still letting go of.
    #expect(descriptorCount() >= descriptors + 30)
    #expect(threadCount() >= threads + 10)
    for connection in open { await connection.close() }
}

/// Ten connections, half of which never come about.
private func everyWayToEnd(_ conninfo: String, _ hole: BlackHole) async throws {
    let options = ConnectionOptions(conninfo)
    let used = try await PostgresConnection.connect(options)
    #expect(try await used.query("SELECT 1").firstValue == "1")
    await used.close()
    let cancelled = try await PostgresConnection.connect(options)
    let late = await postgresError { _ = try await cancelled.query("SELECT pg_sleep(60)", timeoutMilliseconds: 5) }
    #expect(late == .timeout(milliseconds: 5))
    await cancelled.close()
    // Let go of in the middle of a copy, without a close.
    try await PostgresConnection.connect(options).beginCopyOut("COPY (SELECT generate_series(1, 100000)) TO STDOUT")
    let ended = try await PostgresConnection.connect(options)
    _ = await postgresError { _ = try await ended.query("SELECT pg_terminate_backend(pg_backend_pid())") }
    try await waitUntil("the server has ended it") { await ended.isAlive == false }
    let replication = try await ReplicationConnection.connect(options)
    #expect(try await replication.identifySystem().flushLSN > 0)
    await replication.close()
    for refused in ["host=127.0.0.1 port=1", "host=no-such-host.invalid", "host=/nowhere", "this is no conninfo ="] {
        let error = await postgresError { try await PostgresConnection.connect(ConnectionOptions(refused)).close() }
        guard case .connection = error else { throw TestFailure() }
    }
    let waiting = Task { try await PostgresConnection.connect(ConnectionOptions(hole.conninfo())).close() }
    try await waitUntil("the client has connected") { hole.hasGuest }
    waiting.cancel()
    #expect(await postgresError { try await waiting.value } == .cancelled)
    hole.dismissGuests()
}

/// The descriptors of this process, without the one that reads the folder.
private func descriptorCount() -> Int {
    guard let folder = opendir("/proc/self/fd") else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    return count - 3
}
