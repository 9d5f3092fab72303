/// The SQL files beside this one, in order: the schema `lindero` that Lindero keeps in each database it serves.
public enum Migrations {
    public struct Migration: Sendable, Equatable {
        public let version: Int
        public let name: String
        public let up: String
        public let down: String

        public init(version: Int, name: String, up: String, down: String) {
            self.version = version
            self.name = name
            self.up = up
            self.down = down
        }
    }

    /// Every migration, by rising version.
    public static let all: [Migration] = [
        Migration(
            version: 1, name: "progress", up: text(PackageResources._001_progress_up_sql),
            down: text(PackageResources._001_progress_down_sql)),
        Migration(
            version: 2, name: "table_copy", up: text(PackageResources._002_table_copy_up_sql),
            down: text(PackageResources._002_table_copy_down_sql)),
        Migration(
            version: 3, name: "ownership", up: text(PackageResources._003_ownership_up_sql),
            down: text(PackageResources._003_ownership_down_sql)),
        Migration(
            version: 4, name: "guard_identity", up: text(PackageResources._004_guard_identity_up_sql),
            down: text(PackageResources._004_guard_identity_down_sql)),
        Migration(
            version: 5, name: "table_copy_chunk", up: text(PackageResources._005_table_copy_chunk_up_sql),
            down: text(PackageResources._005_table_copy_chunk_down_sql)),
        Migration(
            version: 6, name: "quarantine", up: text(PackageResources._006_quarantine_up_sql),
            down: text(PackageResources._006_quarantine_down_sql)),
        Migration(
            version: 7, name: "applied_lsn", up: text(PackageResources._007_applied_lsn_up_sql),
            down: text(PackageResources._007_applied_lsn_down_sql)),
        Migration(
            version: 8, name: "audited_side", up: text(PackageResources._008_audited_side_up_sql),
            down: text(PackageResources._008_audited_side_down_sql)),
        Migration(
            version: 9, name: "direction_history", up: text(PackageResources._009_direction_history_up_sql),
            down: text(PackageResources._009_direction_history_down_sql)),
        Migration(
            version: 10, name: "conflict", up: text(PackageResources._010_conflict_up_sql),
            down: text(PackageResources._010_conflict_down_sql)),
        Migration(
            version: 11, name: "sequence_split", up: text(PackageResources._011_sequence_split_up_sql),
            down: text(PackageResources._011_sequence_split_down_sql)),
        Migration(
            version: 12, name: "verification", up: text(PackageResources._012_verification_up_sql),
            down: text(PackageResources._012_verification_down_sql)),
        Migration(
            version: 13, name: "phase", up: text(PackageResources._013_phase_up_sql),
            down: text(PackageResources._013_phase_down_sql)),
        Migration(
            version: 14, name: "moved_service", up: text(PackageResources._014_moved_service_up_sql),
            down: text(PackageResources._014_moved_service_down_sql)),
        Migration(
            version: 15, name: "replica_identity", up: text(PackageResources._015_replica_identity_up_sql),
            down: text(PackageResources._015_replica_identity_down_sql)),
        Migration(
            version: 16, name: "repair", up: text(PackageResources._016_repair_up_sql),
            down: text(PackageResources._016_repair_down_sql)),
        Migration(
            version: 17, name: "table_left", up: text(PackageResources._017_table_left_up_sql),
            down: text(PackageResources._017_table_left_down_sql)),
        Migration(
            version: 18, name: "column_left", up: text(PackageResources._018_column_left_up_sql),
            down: text(PackageResources._018_column_left_down_sql)),
        Migration(
            version: 19, name: "split_table", up: text(PackageResources._019_split_table_up_sql),
            down: text(PackageResources._019_split_table_down_sql)),
        Migration(
            version: 20, name: "split_column", up: text(PackageResources._020_split_column_up_sql),
            down: text(PackageResources._020_split_column_down_sql)),
        Migration(
            version: 21, name: "split_policy", up: text(PackageResources._021_split_policy_up_sql),
            down: text(PackageResources._021_split_policy_down_sql)),
        Migration(
            version: 22, name: "fires_nothing", up: text(PackageResources._022_fires_nothing_up_sql),
            down: text(PackageResources._022_fires_nothing_down_sql)),
        Migration(
            version: 23, name: "renewed_slot", up: text(PackageResources._023_renewed_slot_up_sql),
            down: text(PackageResources._023_renewed_slot_down_sql)),
        Migration(
            version: 24, name: "target_ahead", up: text(PackageResources._024_target_ahead_up_sql),
            down: text(PackageResources._024_target_ahead_down_sql)),
        Migration(
            version: 25, name: "guarded_role", up: text(PackageResources._025_guarded_role_up_sql),
            down: text(PackageResources._025_guarded_role_down_sql)),
        Migration(
            version: 26, name: "source_oid", up: text(PackageResources._026_source_oid_up_sql),
            down: text(PackageResources._026_source_oid_down_sql)),
        Migration(
            version: 27, name: "split_identity", up: text(PackageResources._027_split_identity_up_sql),
            down: text(PackageResources._027_split_identity_down_sql)),
        Migration(
            version: 28, name: "table_emptied", up: text(PackageResources._028_table_emptied_up_sql),
            down: text(PackageResources._028_table_emptied_down_sql)),
    ]

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}
