package layer

import (
	"errors"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// How much of the content is one piece of work. Both decide the bytes, the
// number of workers does not:
//
//   - a block of gzip has the end of the one before as its dictionary, whoever
//     of the workers compresses it;
//   - a frame of zstd stands for itself. That makes a layer at level 3 one per cent
//     larger than a single frame would be; frames twice as large would make it
//     half a per cent, and take twice the memory of several layers at once.
const (
	blockSize = 1 << 20
	frameSize = 4 << 20
)

// newCompressor returns a writer that works on jobs pieces at once. It must be
// closed whatever happens.
func newCompressor(w io.Writer, c Compression, jobs int) (io.WriteCloser, error) {
	if jobs <= 0 {
		jobs = 2
	}
	c = c.complete()
	if c.Algorithm == Zstd {
		return newFrames(w, encoderLevel(c.Level), jobs)
	}
	z, err := pgzip.NewWriterLevel(w, c.Level)
	if err != nil {
		return nil, err
	}
	z.ModTime = time.Unix(0, 0) // the package writes a zero time.Time as a year in the future
	return z, z.SetConcurrency(blockSize, jobs)
}

// frames writes what it is given as zstd frames of [frameSize] bytes of content,
// the last of which may have less. Up to jobs frames are compressed at once, each by a
// goroutine of its own; they are written in order by those who call Write and Close.
//
// Its memory is that of jobs+1 frames, with and without compression, and of jobs encoders.
type frames struct {
	w       io.Writer
	encoder *zstd.Encoder
	jobs    int
	next    *frame   // takes what is written
	busy    []*frame // that are being compressed, the oldest first
	idle    []*frame // whose buffers may be used again
	started bool     // a frame was
	err     error    // of w
}

// frame is some of the content and what it is compressed to.
type frame struct {
	content    []byte
	compressed []byte
	done       chan struct{} // closed when compressed is complete
}

func newFrames(w io.Writer, level zstd.EncoderLevel, jobs int) (*frames, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(jobs),
		zstd.WithWindowSize(frameSize), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &frames{w: w, encoder: encoder, jobs: jobs, next: newFrame()}, nil
}

// newFrame makes the buffers as large as they usually become: growing them would
// leave as much again to the garbage collector.
func newFrame() *frame {
	return &frame{content: make([]byte, 0, frameSize), compressed: make([]byte, 0, frameSize/2)}
}

// Write implements [io.Writer].
func (z *frames) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(z.next.content) == frameSize {
			z.start()
		}
		if z.err != nil {
			return n, z.err
		}
		take := min(len(p)-n, frameSize-len(z.next.content))
		z.next.content = append(z.next.content, p[n:n+take]...)
		n += take
	}
	return n, nil
}

// Close compresses and writes the rest. No goroutine is left when it returns.
func (z *frames) Close() error {
	if len(z.next.content) > 0 || !z.started { // no content at all is one empty frame
		z.start()
	}
	for len(z.busy) > 0 {
		z.finish()
	}
	return errors.Join(z.err, z.encoder.Close())
}

// start has the next frame compressed. When all workers are busy it first waits
// for the oldest frame.
func (z *frames) start() {
	if len(z.busy) == z.jobs {
		z.finish()
	}
	f := z.next
	f.done = make(chan struct{})
	go func() {
		defer close(f.done)
		f.compressed = z.encoder.EncodeAll(f.content, f.compressed[:0])
	}()
	z.busy, z.started = append(z.busy, f), true
	if last := len(z.idle) - 1; last >= 0 {
		z.next, z.idle = z.idle[last], z.idle[:last]
		return
	}
	z.next = newFrame()
}

// finish waits for the oldest frame and writes it, unless writing has failed before.
func (z *frames) finish() {
	f := z.busy[0]
	<-f.done
	if z.err == nil {
		_, z.err = z.w.Write(f.compressed)
	}
	f.content = f.content[:0]
	z.busy, z.idle = z.busy[1:], append(z.idle, f)
}
