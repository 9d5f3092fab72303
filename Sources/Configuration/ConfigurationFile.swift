import ReplicationCore
import Yams

/// The file `lindero.yaml`, or the environment in its place.
public struct ConfigurationFile {
    /// The `path` of problems when there is no file.
    public static let environmentPath = "environment"

    /// Reads the text of a configuration file. What a database must answer is checked by `OwnershipPolicy.resolve`.
    ///
    /// - Parameter path: the file's name, for messages only.
    /// - Throws: every problem at once, in the file's order, each with its line and column.
    public static func parse(_ text: String, path: String) throws(ConfigurationError) -> LinderoConfiguration
    {
        let root: Node?
        do {
            root = try compose(yaml: text, .basic)
        } catch {
            throw ConfigurationError(problems: [YAMLProblem.describe(error, text: text, path: path)])
        }
        guard let root, !isEmpty(root) else {
            let message = "the file is empty; lindero init --force writes one to start from"
            throw ConfigurationError(problems: [ConfigurationProblem(path: path, message: message)])
        }
        var parser = ConfigurationParser(path: path)
        let configuration = parser.configuration(root)
        guard parser.problems.isEmpty, let configuration else {
            throw ConfigurationError(problems: inOrder(parser.problems))
        }
        return configuration
    }

    /// The configuration when there is no file: one database named `primary`, backend `shared`, no tables.
    ///
    /// - Parameter environment: must hold `DATABASE_URL`; it is referred to, not read.
    public static func fromEnvironment(
        _ environment: [String: String]
    ) throws(ConfigurationError) -> LinderoConfiguration {
        guard let url = environment["DATABASE_URL"], !url.isEmpty else {
            let message =
                "there is no lindero.yaml here and DATABASE_URL is not set; set it, or run lindero init"
            throw ConfigurationError(problems: [ConfigurationProblem(path: environmentPath, message: message)])
        }
        let primary = DatabaseSettings(name: "primary", url: .environment("DATABASE_URL"))
        return LinderoConfiguration(backend: .shared, databases: [primary], origin: primary.name)
    }

    private static func isEmpty(_ node: Node) -> Bool {
        if case .scalar(let scalar) = node { return ConfigurationParser.isNull(scalar) }
        return false
    }

    private static func inOrder(_ problems: [ConfigurationProblem]) -> [ConfigurationProblem] {
        problems.enumerated().sorted { left, right in
            let leftKey = (left.element.line ?? 0, left.element.column ?? 0, left.offset)
            return leftKey < (right.element.line ?? 0, right.element.column ?? 0, right.offset)
        }.map(\.element)
    }
}

extension ConfigurationParser {
    /// The whole file. `nil` only with problems.
    mutating func configuration(_ root: Node) -> LinderoConfiguration? {
        let keys = [
            "version", "backend", "databases", "origin", "defaults", "gates", "replication", "verify", "cutover", "tables",
        ]
        var nodes: [String: Node] = [:]
        for entry in entries(root, of: "the file", keys: keys) { nodes[entry.key] = entry.value }
        if case .mapping = root { checkVersion(nodes["version"], root: root) } else { return nil }

        let backendNode = nodes["backend"]
        let backend = backendNode.map { choice($0, of: "backend") } ?? LinderoConfiguration.Backend.shared
        // A word that is no backend is reported once, not with everything that goes with one.
        self.backend = backend ?? .split
        var databases: [DatabaseSettings] = []
        if let node = nodes["databases"] {
            databases = self.databases(node)
            if databases.isEmpty, problems.isEmpty {
                report("databases must name at least one database", at: node)
            }
        } else {
            report("databases is missing; write databases: { primary: { url: env:DATABASE_URL } }", at: root)
        }
        var origin = nodes["origin"].map { self.origin($0, databases: databases) } ?? nil
        if let backend, !databases.isEmpty {
            checkBackend(
                backend, databases: databases, origin: nodes["origin"] == nil ? nil : origin ?? "",
                at: backendNode,
                databasesNode: nodes["databases"])
        }
        if nodes["origin"] == nil { origin = databases.first?.name }

        let defaults = nodes["defaults"].map { self.defaults($0) } ?? Defaults()
        let gates = nodes["gates"].map { self.gates($0) } ?? Gates()
        let replication = nodes["replication"].map { self.replication($0) } ?? ReplicationSettings()
        let rules =
            nodes["tables"].map { tables($0, databases: databases.map(\.name), defaults: defaults) } ?? []
        guard let backend, let origin else { return nil }
        var configuration = LinderoConfiguration(
            backend: backend, databases: databases, origin: origin, defaults: defaults, gates: gates,
            replication: replication, tables: rules)
        if let node = nodes["verify"] { configuration.verify = verify(node) }
        if let node = nodes["cutover"] { configuration.cutover = cutover(node, databases: databases) }
        return configuration
    }

    private mutating func checkVersion(_ node: Node?, root: Node) {
        guard let node else {
            report("version is missing; begin the file with version: 1", at: root)
            return
        }
        guard let word = word(node, of: "version", expected: "1"), word.text != "1" else { return }
        report("version is \"\(word.text)\", but this Lindero reads version 1", at: node)
    }
}
