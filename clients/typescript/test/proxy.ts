/** A network that fails: a TCP proxy that cuts connections or silently drops their data. */

import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/** The directions in which data is dropped while both ends believe that they are connected. */
export type Hole = "both" | "to client" | "to server";

interface Link {
  client: Socket;
  server: Socket;
  hole: Hole | undefined;
}

export class Proxy {
  /** The number of connections that `cut` and `blackHole` broke. */
  deaths = 0;
  /** While true, new connections are cut at once. */
  refuses = false;
  readonly #server: Server;
  readonly #links = new Set<Link>();

  private constructor(target: URL) {
    this.#server = createServer((client) => this.#accept(client, target));
  }

  static async to(target: string): Promise<Proxy> {
    const proxy = new Proxy(new URL(target));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get connections(): number {
    return this.#links.size;
  }

  /** Cuts all connections, or those that `choose` picks. */
  cut(choose: () => boolean = () => true): void {
    for (const link of [...this.#links].filter(choose)) {
      this.deaths += 1;
      link.client.resetAndDestroy();
      link.server.resetAndDestroy();
    }
  }

  /** From now on, the data of the present connections is dropped. */
  blackHole(hole: Hole = "both", choose: () => boolean = () => true): void {
    for (const link of [...this.#links].filter(choose)) {
      this.deaths += 1;
      // Dropped data leaves a gap, so nothing after it may pass either.
      link.hole = link.hole === undefined || link.hole === hole ? hole : "both";
    }
  }

  async close(): Promise<void> {
    this.#server.close();
    this.cut();
    await once(this.#server, "close");
  }

  #accept(client: Socket, target: URL): void {
    if (this.refuses) {
      client.resetAndDestroy();
      return;
    }
    const server = connect(Number(target.port), target.hostname);
    const link: Link = { client, server, hole: undefined };
    this.#links.add(link);
    client.on("data", (data) => link.hole === undefined || link.hole === "to client" ? server.write(data) : undefined);
    server.on("data", (data) => link.hole === undefined || link.hole === "to server" ? client.write(data) : undefined);
    for (const [socket, other] of [[client, server], [server, client]] as const) {
      socket.on("error", () => socket.destroy());
      // The end of one side is passed to the other, but not through a black hole.
      socket.on("close", () => {
        if (link.hole === undefined || socket === client) other.destroy();
        if (socket === client) this.#links.delete(link);
      });
    }
  }
}
