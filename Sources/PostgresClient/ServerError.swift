import CLibPQ

/// What the server said when it refused something.
///
/// It never holds row values. Except for classes that speak of objects, sessions and resources alone, and never when
/// a PL/pgSQL function raised it, the server's own text may quote values, so `message` is the condition's name and
/// there is no detail; the names of the table, column and constraint are kept, which is what is needed to act.
public struct ServerError: Error, Sendable, Equatable, CustomStringConvertible {
    public let sqlState: SQLState
    /// `ERROR`, `FATAL`, `PANIC`; for notices `WARNING`, `NOTICE` and so on.
    public let severity: String
    public let message: String
    /// Kept only for classes whose details name objects, never rows.
    public let detail: String?
    public let hint: String?
    public let schema: String?
    public let table: String?
    public let column: String?
    public let constraint: String?
    public let dataType: String?
    /// The line of COPY's input the error was found in, counted from 1.
    public let copyLine: Int?
    /// Such as `PL/pgSQL function check_phone() line 3 at RAISE`.
    public let routine: String?
    /// The function of PostgreSQL's own code that raised the error, such as `ExecWithCheckOptions`; it tells apart what
    /// one SQLSTATE stands for.
    public let sourceFunction: String?

    /// The connection is gone after this error.
    public var isFatal: Bool { severity == "FATAL" || severity == "PANIC" }

    public init(
        sqlState: SQLState, severity: String = "ERROR", message: String, detail: String? = nil,
        hint: String? = nil, schema: String? = nil, table: String? = nil, column: String? = nil,
        constraint: String? = nil, dataType: String? = nil, context: String? = nil,
        sourceFunction: String? = nil
    ) {
        let routine = context.flatMap(ServerError.routine(in:))
        // RAISE in a function may give any code to a text that quotes anything, and so may the text of a statement that a function has put
        // together: both may hold a row's values. A script's own block is no function. Of a context the language's name is in no language.
        let frames = context?.split(separator: "\n").filter { $0.contains("PL/pgSQL") } ?? []
        let isOfFunction = frames.contains { !$0.contains("inline_code_block") }
        let isRaised = sourceFunction == "exec_stmt_raise" && (isOfFunction || frames.isEmpty)
        let hidesText = sqlState.textQuotesValues || isRaised || sqlState.class == "42" && isOfFunction
        self.sqlState = sqlState
        self.severity = severity
        self.message = hidesText ? sqlState.conditionName : message
        self.detail = hidesText ? nil : ServerError.safeDetail(detail, sqlState)
        self.hint = hidesText ? nil : hint
        // So may the names that RAISE gives.
        self.schema = isRaised ? nil : schema
        self.table = isRaised ? nil : table
        self.column = isRaised ? nil : column ?? context.flatMap(ServerError.copyColumn(in:))
        self.constraint = isRaised ? nil : constraint
        self.dataType = isRaised ? nil : dataType
        copyLine = context.flatMap(ServerError.copyLine(in:))
        self.routine = routine
        self.sourceFunction = sourceFunction
    }

    /// Codes whose text quotes the name of an object that is not there.
    private static let quotesNames: Set<String> = ["42P01", "42704", "42883", "42725", "3F000", "55P04"]

    /// The same for a statement that carries rows: a value may be the name of an object (`regclass`, `regtype`), and is quoted where
    /// there is none.
    public var ofRows: ServerError {
        guard Self.quotesNames.contains(sqlState.rawValue) else { return self }
        return ServerError(
            sqlState: sqlState, severity: severity, message: sqlState.conditionName, schema: schema, table: table, column: column,
            constraint: constraint, dataType: dataType, sourceFunction: sourceFunction)
    }

    /// A warning that something is left out because what it depends on is not there (55000).
    public var isOmission: Bool { severity == "WARNING" && sqlState.rawValue == "55000" }

    init(result: OpaquePointer) {
        func field(_ code: CInt) -> String? {
            PQresultErrorField(result, code).map { String(cString: $0) }
        }
        func field(_ letter: Character) -> String? { field(CInt(letter.asciiValue ?? 0)) }
        self.init(
            sqlState: SQLState(field("C") ?? "XX000"),
            severity: field("V") ?? field("S") ?? "ERROR",
            message: field("M") ?? "the server gave no reason",
            detail: field("D"), hint: field("H"), schema: field("s"), table: field("t"), column: field("c"),
            constraint: field("n"), dataType: field("d"), context: field("W"),
            sourceFunction: field("R"))
    }

    public var description: String {
        var text = message
        if let object { text += " on \(object)" }
        if let constraint { text += ", constraint \"\(constraint)\"" }
        if let dataType { text += ", type \(dataType)" }
        if let copyLine { text += ", line \(copyLine) of the input" }
        if let routine, message == sqlState.conditionName || sourceFunction == "exec_stmt_raise" { text += ", in \(routine)" }
        text += " (SQLSTATE \(sqlState))"
        if let detail { text += ". \(detail)" }
        if let hint { text += ". Hint: \(hint)" }
        return text
    }

    /// `schema.table.column`, as far as the server named them.
    private var object: String? {
        let names = [schema, table, column].compactMap { $0 }
        return names.isEmpty ? nil : names.joined(separator: ".")
    }

    /// Classes whose detail speaks of objects, privileges, locks or resources. Everything else stays unsaid.
    private static func safeDetail(_ detail: String?, _ sqlState: SQLState) -> String? {
        switch sqlState.class {
        case "28", "2B", "3D", "3F", "42", "53", "55", "57", "58": detail
        default: nil
        }
    }

    // The context of a COPY error reads: COPY Reservas, line 3, column phone: "+34…". Only the names are taken.

    private static func copyLine(in context: String) -> Int? {
        guard context.hasPrefix("COPY "), let rest = context.after(", line ") else { return nil }
        return Int(rest.prefix { $0.isASCII && $0.isNumber })
    }

    private static func copyColumn(in context: String) -> String? {
        guard context.hasPrefix("COPY "), let rest = context.after(", line ")?.after(", column ") else {
            return nil
        }
        let name = rest.prefix { $0 != ":" && $0 != "," && $0 != "\n" }
        return name.isEmpty ? nil : String(name)
    }

    private static func routine(in context: String) -> String? {
        guard context.hasPrefix("PL/pgSQL function ") else { return nil }
        return String(context.prefix { $0 != "\n" && $0 != "\"" })
    }
}

extension StringProtocol where SubSequence == Substring {
    /// What follows the first occurrence of `marker`.
    func after(_ marker: String) -> Substring? {
        var rest = self[...]
        while !rest.isEmpty {
            if rest.hasPrefix(marker) { return rest.dropFirst(marker.count) }
            rest = rest.dropFirst()
        }
        return nil
    }
}
