/// The comparisons that the resolver stands on. The simulation breaks them one by one, to show that it would notice.
struct ResolutionRules: Sendable {
    /// Whether the remote transaction had not seen the local one.
    var isConcurrent: @Sendable (LSN, CausalContext) -> Bool = { !$1.includes(commitLSN: $0) }
    /// Whether a remote write comes after a local one; equal times are decided by the databases' names.
    var isLater: @Sendable (_ remote: PostgresTime, _ local: PostgresTime, _ remoteWinsTies: Bool) -> Bool = {
        $0 == $1 ? $2 : $0 > $1
    }
    /// A shared column under the rule by which a remote and a local write of it are judged.
    var asOf: @Sendable (_ column: SplitTable.SharedColumn, _ remote: WriteMark, _ local: WriteMark) -> SplitTable.SharedColumn = {
        $0.judging(remote: $1, local: $2)
    }
    var prefersRemote: @Sendable (SplitTable.SharedColumn) -> Bool = { $0.prefersSource }
    /// Whether an operation on a row that this side deleted is dropped.
    var deleteWins = true
    /// Whether a remote delete is set against a local one of the same generation.
    var matchesDeletes = true
    /// Whether a delete ends what was written in the row's generation.
    var endsGenerations = true
    /// How often a loser is recorded where it is dropped.
    var recordCount = 1
    var addsDifference = true
    var restoresLocal = true
    /// The same of a column that has had another policy.
    var restoresFormer = true
    var mergesStoredValue = true
    /// Whether what a database gave to its own columns gives way to a write that it had not seen.
    var echoesYield = true
}
