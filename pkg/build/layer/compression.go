package layer

import (
	"fmt"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// The algorithms of a [Compression].
const (
	Gzip = "gzip" // every client reads it
	Zstd = "zstd" // smaller, and several times faster to unpack
)

// Compression says how a layer is compressed. The zero Compression is gzip at level 6.
//
// A level of gzip is one of 1 to 9. A level of zstd is one of 1 to 22, as the
// program zstd(1) has them, but the encoder here knows only four: 1 and 2, 3 to
// 5, 6 to 9, and 10 to 22 give the same bytes. They compress about as well as
// levels 1, 3, 7 and 11 of zstd(1).
type Compression struct {
	Algorithm string `yaml:"algorithm" json:"algorithm,omitempty"` // [Gzip] or [Zstd]; "": gzip
	Level     int    `yaml:"level" json:"level,omitempty"`         // 0: 6 for gzip, 3 for zstd
}

// Version names what decides the bytes of a layer beside its content, when the
// [Compression] is the zero one. See [Compression.Version].
const Version = "pgzip-6-1MiB"

// The levels where none is given.
const (
	gzipLevel = 6
	zstdLevel = 3
)

// complete returns c with what is not given filled in.
func (c Compression) complete() Compression {
	if c.Algorithm == "" {
		c.Algorithm = Gzip
	}
	switch {
	case c.Level != 0:
	case c.Algorithm == Zstd:
		c.Level = zstdLevel
	default:
		c.Level = gzipLevel
	}
	return c
}

// Validate says what is wrong with c: another algorithm, or a level that it does not have.
func (c Compression) Validate() error {
	c = c.complete()
	highest := 9
	switch c.Algorithm {
	case Gzip:
	case Zstd:
		highest = 22
	default:
		return fmt.Errorf("algorithm: got %.40q, want %s or %s", c.Algorithm, Gzip, Zstd)
	}
	if c.Level < 1 || c.Level > highest {
		return fmt.Errorf("level: got %d, want 1 to %d for %s", c.Level, highest, c.Algorithm)
	}
	return nil
}

// Version names what decides the bytes of a layer that c compresses, beside its
// content. It belongs into every key and into the record of a build. Two
// Compressions that give the same bytes have the same.
func (c Compression) Version() string {
	c = c.complete()
	if c.Algorithm == Zstd {
		return fmt.Sprintf("zstd-%s-%dMiB", encoderLevel(c.Level), frameSize>>20)
	}
	return fmt.Sprintf("pgzip-%d-%dMiB", c.Level, blockSize>>20)
}

// MediaType returns the media type of a layer that c compresses.
func (c Compression) MediaType() types.MediaType {
	if c.Algorithm == Zstd {
		return types.OCILayerZStd
	}
	return types.OCILayer
}

// String is what people read: "zstd 3".
func (c Compression) String() string {
	c = c.complete()
	return fmt.Sprintf("%s %d", c.Algorithm, c.Level)
}

// suffix ends the name of a layer's file.
func (c Compression) suffix() string {
	if c.Algorithm == Zstd {
		return ".tar.zst"
	}
	return ".tar.gz"
}

// encoderLevel is the level of the encoder for one of zstd(1). The encoder's
// package has such a function, too, but reserves the right to change it.
func encoderLevel(level int) zstd.EncoderLevel {
	switch {
	case level < 3:
		return zstd.SpeedFastest
	case level < 6:
		return zstd.SpeedDefault
	case level < 10:
		return zstd.SpeedBetterCompression
	}
	return zstd.SpeedBestCompression
}
