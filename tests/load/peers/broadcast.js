// The functions of serverless.yml.
const { DynamoDBClient } = require('@aws-sdk/client-dynamodb')
const { DeleteCommand, DynamoDBDocumentClient, PutCommand, ScanCommand } = require('@aws-sdk/lib-dynamodb')
const { ApiGatewayManagementApi } = require('@aws-sdk/client-apigatewaymanagementapi')

const local = { region: 'us-east-1', credentials: { accessKeyId: 'local', secretAccessKey: 'local' } }
const table = DynamoDBDocumentClient.from(new DynamoDBClient({ ...local, endpoint: process.env.DYNAMODB }))
const gateway = new ApiGatewayManagementApi({ ...local, endpoint: `http://127.0.0.1:${process.env.WEBSOCKET_PORT}` })
const TableName = 'connections'

exports.connect = async ({ requestContext: { connectionId } }) => {
  await table.send(new PutCommand({ TableName, Item: { connectionId } }))
  return { statusCode: 200 }
}

exports.disconnect = async ({ requestContext: { connectionId } }) => {
  await table.send(new DeleteCommand({ TableName, Key: { connectionId } }))
  return { statusCode: 200 }
}

exports.message = async ({ requestContext, body }) => {
  const { Items } = await table.send(new ScanCommand({ TableName, ProjectionExpression: 'connectionId' }))
  const others = Items.filter(({ connectionId }) => connectionId !== requestContext.connectionId)
  await Promise.all(others.map(async ({ connectionId }) => {
    try {
      await gateway.postToConnection({ ConnectionId: connectionId, Data: body })
    } catch (error) {
      if (error.$metadata?.httpStatusCode !== 410) throw error
      await table.send(new DeleteCommand({ TableName, Key: { connectionId } }))
    }
  }))
  return { statusCode: 200 }
}
