// Creates the table of broadcast.js.
const { CreateTableCommand, DynamoDBClient } = require('@aws-sdk/client-dynamodb')

const credentials = { accessKeyId: 'local', secretAccessKey: 'local' }
new DynamoDBClient({ region: 'us-east-1', credentials, endpoint: process.env.DYNAMODB }).send(new CreateTableCommand({
  TableName: 'connections',
  BillingMode: 'PAY_PER_REQUEST',
  AttributeDefinitions: [{ AttributeName: 'connectionId', AttributeType: 'S' }],
  KeySchema: [{ AttributeName: 'connectionId', KeyType: 'HASH' }]
}))
