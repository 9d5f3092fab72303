/// One request of a pipeline.
public enum PipelineStep: Sendable {
    /// Parses a statement under a name; `parameterTypes` are OIDs, 0 lets the server infer.
    case prepare(name: String, sql: String, parameterTypes: [UInt32])
    /// Runs a prepared statement.
    case execute(name: String, parameters: [PostgresParameter], binaryResult: Bool)
    /// The same with values that lie in one block.
    case executePacked(name: String, parameters: PackedParameters)
    /// Runs a prepared statement whose parameters are made when its turn comes: the server works on the step before
    /// meanwhile, and never more than one step's parameters are in memory.
    case executeLater(name: String, parameters: any ParameterSource)
    /// Parses and runs one statement.
    case query(sql: String, parameters: [PostgresParameter], parameterTypes: [UInt32])

    /// Gives a prepared statement more parameters, behind those that it has.
    public mutating func append(_ more: [PostgresParameter]) {
        switch self {
        case .execute(let name, let parameters, let binaryResult):
            self = .execute(name: name, parameters: parameters + more, binaryResult: binaryResult)
        case .executePacked(let name, var parameters):
            for parameter in more { parameters.append(parameter) }
            self = .executePacked(name: name, parameters: parameters)
        case .prepare, .executeLater, .query: preconditionFailure("only a statement whose parameters are known can take more")
        }
    }

    /// Refuses what cannot be sent.
    func check() throws(PostgresError) {
        switch self {
        case .prepare, .executeLater: return
        case .execute(_, let parameters, _): try ParameterBlock.check(parameters)
        case .executePacked(_, let parameters): try ParameterBlock.check(parameters)
        case .query(_, let parameters, let types): try ParameterBlock.check(parameters, types: types)
        }
    }

    /// About what the step adds to the stream, to decide when to send.
    var approximateBytes: Int {
        switch self {
        case .prepare(_, let sql, _): sql.utf8.count + 64
        case .execute(_, let parameters, _): 64 + parameters.reduce(0) { $0 + $1.byteCount }
        case .executePacked(_, let parameters): 64 + parameters.bytes.count
        case .executeLater(_, let parameters): 64 + parameters.approximateBytes
        case .query(let sql, let parameters, _): 64 + sql.utf8.count + parameters.reduce(0) { $0 + $1.byteCount }
        }
    }
}

/// Makes a step's parameters when they are sent.
public protocol ParameterSource: Sendable {
    /// About what they take, in bytes.
    var approximateBytes: Int { get }
    /// Adds them.
    func append(to parameters: inout PackedParameters)
}

/// The server refused one step of a pipeline; none after it ran.
public struct PipelineError: Error, Sendable, CustomStringConvertible {
    /// Counted from 0; the number of steps when all ran and the commit at their end was refused.
    public var stepIndex: Int
    public var error: PostgresError

    public init(stepIndex: Int, error: PostgresError) {
        self.stepIndex = stepIndex
        self.error = error
    }

    public var description: String { "step \(stepIndex): \(error)" }
}
