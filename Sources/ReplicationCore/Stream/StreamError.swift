/// The stream broke its own rules. Never caused by data: reconnect, and report if it comes again.
public enum StreamError: Error, Sendable, Equatable, CustomStringConvertible {
    case unexpected(String)
    case unknownRelation(UInt32)
    /// A subtransaction was rolled back whose beginning had to be forgotten, to stay within memory: the transaction
    /// has to come again, unstreamed.
    case tooManySubtransactions(xid: UInt32)

    public var description: String {
        switch self {
        case .unexpected(let what): "The replication stream sent \(what)."
        case .unknownRelation(let id): "The replication stream sent a change of relation \(id), never announced."
        case .tooManySubtransactions(let xid): "Transaction \(xid) has more open subtransactions than fit in memory."
        }
    }
}
