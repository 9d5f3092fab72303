import ArgumentParser

@main
struct Lindero: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lindero", abstract: "Column ownership and replication between PostgreSQL databases.")
}
