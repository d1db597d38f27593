package kafkabus

import (
	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// scramClient is one exchange (RFC 5802).
type scramClient struct {
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

func newScram256() sarama.SCRAMClient { return &scramClient{hash: scram.SHA256} }
func newScram512() sarama.SCRAMClient { return &scramClient{hash: scram.SHA512} }

func (s *scramClient) Begin(user, password, authzID string) error {
	client, err := s.hash.NewClient(user, password, authzID)
	if err != nil {
		return err
	}
	s.conversation = client.NewConversation()
	return nil
}

func (s *scramClient) Step(challenge string) (string, error) { return s.conversation.Step(challenge) }

func (s *scramClient) Done() bool { return s.conversation.Done() }
