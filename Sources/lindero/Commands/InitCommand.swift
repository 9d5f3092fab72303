import ArgumentParser
import Configuration
import Foundation
import PostgresClient
import ReplicationCore
import Replicator

struct InitCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Write a commented lindero.yaml, from the live tables if asked.",
        discussion: """
            With --from-database the file lists every table and column of DATABASE_URL. Owners are guessed from the \
            privileges of the login roles; what nobody can know is marked with "decide" for a person.

            The file reaches the database by what --url says. Passwords never stand in it, nor in arguments.

            Examples:
              lindero init
              DATABASE_URL=postgresql://localhost/hotel lindero init --from-database
              lindero init --from-database --url service:hotel --config hotel.yaml
            """)

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Describe the tables of the database.")
    var fromDatabase = false

    @Option(help: ArgumentHelp("The database to describe: env:NAME, file:PATH or service:NAME.", valueName: "reference"))
    var url = "env:DATABASE_URL"

    @Flag(help: "Replace a file that exists.")
    var force = false

    func perform() async throws {
        let path = global.config ?? LoadedConfiguration.defaultPath
        guard force || !FileManager.default.fileExists(atPath: path) else {
            throw CommandFailure(
                "file_exists", "The file exists already and was not changed.", place: path,
                nextStep: "Run `lindero check` to check it, or `lindero init --force` to replace it.", exit: .blocked)
        }
        if !fromDatabase { try requireReference() }
        let reference = reference(path: path)
        let text = fromDatabase ? try await draft(reference) : ConfigurationTemplate.text(reference: reference)
        // What Lindero writes must be what Lindero reads.
        let configuration = try ConfigurationFile.parse(text, path: path)
        do {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
        } catch {
            throw CommandFailure(
                "file", "The file can't be written.", place: path,
                nextStep: "Name with --config a file in a folder that exists and that you may write to.", exit: .blocked)
        }
        let decisions = text.split(separator: "\n").count { $0.contains("# decide") }
        answer(
            .object([
                ("path", .text(path)), ("tables", .integer(Int64(configuration.tables.count))),
                ("decisions", .integer(Int64(decisions))),
            ]),
            lines: lines(path: path, tables: configuration.tables.count, decisions: decisions))
    }

    private func lines(path: String, tables: Int, decisions: Int) -> [String] {
        var lines = [fromDatabase ? "Wrote \(path) with \(tables) tables." : "Wrote \(path)."]
        if decisions > 0 { lines.append("\(decisions) lines are marked with \"decide\": say there who writes what.") }
        return lines + ["Next: lindero check"]
    }

    /// Refuses what must not be written. Whether there is anything behind it does not matter yet.
    private func requireReference() throws {
        do {
            _ = try SecretResolver().conninfo(argument: url, name: "--url")
        } catch {
            switch error {
            case .passwordInArgument, .malformedArgument: throw error
            default: return
            }
        }
    }

    /// What the file says about the database. Its relative paths start at its own folder, an argument's at this one.
    private func reference(path: String) -> String {
        guard url.hasPrefix("file:"), (path as NSString).deletingLastPathComponent != "" else { return url }
        let file = String(url.dropFirst("file:".count))
        return "file:" + URL(fileURLWithPath: file).standardizedFileURL.path
    }

    private func draft(_ reference: String) async throws -> String {
        let conninfo = try SecretResolver().conninfo(argument: url, name: "--url")
        let database = Database(name: "primary", options: ConnectionOptions(conninfo))
        return try await database.connected { connection in
            let tables = try await CatalogReader.tables(connection)
            let roles = try await GrantReader.roles(connection, tables: tables)
            return ConfigurationDraft.write(
                tables: tables, databaseName: database.name, roles: roles, reference: reference)
        }
    }
}
