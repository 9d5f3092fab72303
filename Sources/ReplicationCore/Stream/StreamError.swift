/// The stream broke its own rules. Never caused by data: reconnect, and report if it comes again.
public enum StreamError: Error, Sendable, Equatable, CustomStringConvertible {
    case unexpected(String)
    case unknownRelation(UInt32)

    public var description: String {
        switch self {
        case .unexpected(let what): "The replication stream sent \(what)."
        case .unknownRelation(let id): "The replication stream sent a change of relation \(id), never announced."
        }
    }
}
