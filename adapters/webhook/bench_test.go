package webhook_test

import "testing"

// BenchmarkScreen asks a server on this machine, as many at once as there are processors, or many more.
func BenchmarkScreen(b *testing.B) {
	for name, each := range map[string]int{"few": 1, "many": 100} {
		b.Run(name, func(b *testing.B) {
			s := serve(b, nil, says(`{"allow":true}`))
			b.ReportAllocs()
			b.SetParallelism(each)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Screen(b.Context(), hello); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
