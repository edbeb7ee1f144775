package soft

import (
	"testing"

	"capsid/vmm/vmmtest"
)

func TestMain(m *testing.M) { vmmtest.Main(m) }

func TestBackend(t *testing.T) { vmmtest.Run(t, Backend{}, vmmtest.Options{}) }

func BenchmarkBackend(b *testing.B) { vmmtest.Bench(b, Backend{}, vmmtest.Options{}) }
