/** A network that dies: a TCP proxy that cuts connections, or lets what they carry vanish. */

import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/** Which ways nothing gets through any more, while both ends believe that they are connected. */
export type Hole = "both" | "to client" | "to server";

interface Link {
  client: Socket;
  server: Socket;
  hole: Hole | undefined;
}

export class Proxy {
  /** How many connections died by `cut` and `blackHole`. */
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

  /** Cut every connection, or those that `choose` picks. */
  cut(choose: () => boolean = () => true): void {
    for (const link of [...this.#links].filter(choose)) {
      this.deaths += 1;
      link.client.resetAndDestroy();
      link.server.resetAndDestroy();
    }
  }

  /** From now on what the present connections carry vanishes. */
  blackHole(hole: Hole = "both", choose: () => boolean = () => true): void {
    for (const link of [...this.#links].filter(choose)) {
      this.deaths += 1;
      // What has vanished leaves a gap, behind which nothing gets through.
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
      // The end of one is told to the other, but not through a hole.
      socket.on("close", () => {
        if (link.hole === undefined || socket === client) other.destroy();
        if (socket === client) this.#links.delete(link);
      });
    }
  }
}
