// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
]

/// An async function stays on its caller's executor: reader and applier run on their connections' own threads.
let staysOnExecutor = strict + [.enableUpcomingFeature("NonisolatedNonsendingByDefault")]

let package = Package(
    name: "lindero",
    products: [
        .executable(name: "lindero", targets: ["lindero"]),
        .library(name: "ReplicationCore", targets: ["ReplicationCore"]),
        .library(name: "PostgresClient", targets: ["PostgresClient"]),
        .library(name: "Replicator", targets: ["Replicator"]),
        .library(name: "SharedBackend", targets: ["SharedBackend"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // libpq, imported by PostgresClient alone.
        .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        // One instruction that Swift cannot say.
        .systemLibrary(name: "CMemory"),
        // A call of Linux's that Swift cannot make.
        .systemLibrary(name: "CThread"),
        .target(name: "PostgresClient", dependencies: ["CLibPQ", "CThread"], swiftSettings: strict),
        // Values and decisions: no I/O, no clock, no tasks, no Foundation.
        .target(name: "ReplicationCore", dependencies: ["CMemory"], swiftSettings: strict),
        .target(
            name: "Configuration",
            dependencies: ["ReplicationCore", .product(name: "Yams", package: "Yams")],
            swiftSettings: strict),
        // The SQL files of the schema `lindero`, compiled in.
        .target(
            name: "Migrations", path: "migrations",
            resources: [
                .embedInCode("0001_progress.up.sql"), .embedInCode("0001_progress.down.sql"),
                .embedInCode("0002_table_copy.up.sql"), .embedInCode("0002_table_copy.down.sql"),
                .embedInCode("0003_ownership.up.sql"), .embedInCode("0003_ownership.down.sql"),
                .embedInCode("0004_guard_identity.up.sql"), .embedInCode("0004_guard_identity.down.sql"),
                .embedInCode("0005_table_copy_chunk.up.sql"), .embedInCode("0005_table_copy_chunk.down.sql"),
                .embedInCode("0006_quarantine.up.sql"), .embedInCode("0006_quarantine.down.sql"),
                .embedInCode("0007_applied_lsn.up.sql"), .embedInCode("0007_applied_lsn.down.sql"),
                .embedInCode("0008_audited_side.up.sql"), .embedInCode("0008_audited_side.down.sql"),
                .embedInCode("0009_direction_history.up.sql"),
                .embedInCode("0009_direction_history.down.sql"),
                .embedInCode("0010_conflict.up.sql"), .embedInCode("0010_conflict.down.sql"),
                .embedInCode("0011_sequence_split.up.sql"), .embedInCode("0011_sequence_split.down.sql"),
                .embedInCode("0012_verification.up.sql"), .embedInCode("0012_verification.down.sql"),
                .embedInCode("0013_phase.up.sql"), .embedInCode("0013_phase.down.sql"),
                .embedInCode("0014_moved_service.up.sql"), .embedInCode("0014_moved_service.down.sql"),
                .embedInCode("0015_replica_identity.up.sql"), .embedInCode("0015_replica_identity.down.sql"),
                .embedInCode("0016_repair.up.sql"), .embedInCode("0016_repair.down.sql"),
                .embedInCode("0017_table_left.up.sql"), .embedInCode("0017_table_left.down.sql"),
                .embedInCode("0018_column_left.up.sql"), .embedInCode("0018_column_left.down.sql"),
                .embedInCode("0019_split_table.up.sql"), .embedInCode("0019_split_table.down.sql"),
                .embedInCode("0020_split_column.up.sql"), .embedInCode("0020_split_column.down.sql"),
                .embedInCode("0021_split_policy.up.sql"), .embedInCode("0021_split_policy.down.sql"),
                .embedInCode("0022_fires_nothing.up.sql"), .embedInCode("0022_fires_nothing.down.sql"),
                .embedInCode("0023_renewed_slot.up.sql"), .embedInCode("0023_renewed_slot.down.sql"),
                .embedInCode("0024_target_ahead.up.sql"), .embedInCode("0024_target_ahead.down.sql"),
                .embedInCode("0025_guarded_role.up.sql"), .embedInCode("0025_guarded_role.down.sql"),
                .embedInCode("0026_source_oid.up.sql"), .embedInCode("0026_source_oid.down.sql"),
                .embedInCode("0027_split_identity.up.sql"), .embedInCode("0027_split_identity.down.sql"),
                .embedInCode("0028_table_emptied.up.sql"), .embedInCode("0028_table_emptied.down.sql"),
            ],
            swiftSettings: strict),
        .target(
            name: "Replicator",
            dependencies: [
                "PostgresClient", "ReplicationCore", "Migrations",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: staysOnExecutor),
        .target(
            name: "SharedBackend",
            dependencies: [
                "PostgresClient", "ReplicationCore", "Replicator",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        // Where committed changes go besides a replica: the event stream.
        .target(
            name: "Sinks",
            dependencies: [
                "PostgresClient", "ReplicationCore", "Replicator",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(
            name: "Observability",
            dependencies: ["ReplicationCore"],
            resources: [.embedInCode("Page/status.css"), .embedInCode("Page/status.js")],
            swiftSettings: strict),
        .executableTarget(
            name: "lindero",
            dependencies: [
                "PostgresClient", "ReplicationCore", "Configuration", "Migrations", "Replicator",
                "SharedBackend", "Sinks", "Observability",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        // Starts real PostgreSQL clusters for the tests.
        .target(
            name: "TestSupport", dependencies: ["PostgresClient"], path: "Tests/TestSupport",
            swiftSettings: strict),
        .testTarget(
            name: "ReplicationCoreTests", dependencies: ["ReplicationCore", "TestSupport"],
            resources: [.copy("Golden")], swiftSettings: strict),
        .testTarget(
            name: "PostgresClientTests", dependencies: ["PostgresClient", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "ConfigurationTests",
            dependencies: [
                "Configuration", "ReplicationCore", "Replicator", "PostgresClient", "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ReplicatorTests",
            dependencies: ["Replicator", "ReplicationCore", "PostgresClient", "Migrations", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "ObservabilityTests",
            dependencies: ["Observability", "ReplicationCore", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "SharedBackendTests",
            dependencies: [
                "SharedBackend", "Replicator", "ReplicationCore", "PostgresClient", "Migrations",
                "TestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "SinksTests", dependencies: ["Sinks", "ReplicationCore"], swiftSettings: strict),
        .testTarget(
            name: "EndToEndTests",
            dependencies: [
                "lindero", "PostgresClient", "ReplicationCore", "Replicator", "TestSupport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
    ]
)
