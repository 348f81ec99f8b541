// A server that keeps everything in memory, stores nothing, and sends each message to all others.
const { createServer } = require('node:http')
const { Server } = require('socket.io')

const server = createServer()
new Server(server).on('connection', (socket) => {
  socket.on('message', (content) => socket.broadcast.emit('message', content))
})
server.listen(Number(process.env.WEBSOCKET_PORT), '127.0.0.1')
