package bundle

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/imgctl/imgctl/pkg/bundle/content"
	"sigs.k8s.io/yaml"
)

// credentialPath is where the kubelet reads which programs it may ask.
const credentialPath = "/etc/kubernetes/credential-providers.yaml"

// CredentialProviders are programs that the kubelet asks for credentials.
type CredentialProviders struct {
	// Directory holds the programs: "/opt/credential-providers".
	Directory string `yaml:"directory"`
	// Providers are asked for the images that they match.
	Providers []CredentialProvider `yaml:"providers"`
}

// CredentialProvider is one program, of the kubelet's CredentialProviderConfig.
type CredentialProvider struct {
	// Name of the program in the directory.
	Name string `yaml:"name" json:"name"`
	// MatchImages are the images it is asked for: "*.dkr.ecr.*.amazonaws.com".
	MatchImages []string `yaml:"matchImages" json:"matchImages"`
	// CacheDuration is how long an answer holds that does not say so itself: "12h".
	CacheDuration string `yaml:"cacheDuration" json:"defaultCacheDuration"`
	// APIVersion that the program speaks.
	APIVersion string `yaml:"-" json:"apiVersion"`
	// Args of the program.
	Args []string `yaml:"args" json:"args,omitempty"`
}

var (
	programForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	imagesForm  = regexp.MustCompile(`^[A-Za-z0-9*.-]+(:[0-9]+)?(/[A-Za-z0-9._/-]*)?$`)
)

func (c *Config) checkCredentialProviders() error {
	const key = "kubelet.credentialProviders"
	p := c.Kubelet.CredentialProviders
	if p == nil {
		return nil
	}
	if err := content.CheckPath(p.Directory); err != nil || path.Dir(p.Directory) == "/" {
		return fmt.Errorf("%s.directory: got %q, want an absolute path below a directory of the root", key, p.Directory)
	}
	if len(p.Providers) == 0 {
		return fmt.Errorf("%s.providers: got none, want at least one", key)
	}
	for i, one := range p.Providers {
		if !programForm.MatchString(one.Name) {
			return fmt.Errorf("%s.providers[%d].name: got %q, want the name of a program in the directory", key, i, one.Name)
		}
		if d, err := time.ParseDuration(one.CacheDuration); err != nil || d < 0 {
			return fmt.Errorf("%s.providers[%d].cacheDuration: got %q, want a duration such as 12h", key, i, one.CacheDuration)
		}
		if len(one.MatchImages) == 0 {
			return fmt.Errorf("%s.providers[%d].matchImages: got none, want at least one", key, i)
		}
		for _, m := range one.MatchImages {
			if !imagesForm.MatchString(m) {
				return fmt.Errorf("%s.providers[%d].matchImages: got %q, want a host, perhaps with *, a port and a path", key, i, m)
			}
		}
		for _, a := range one.Args {
			if strings.ContainsFunc(a, func(r rune) bool { return !unicode.IsPrint(r) }) {
				return fmt.Errorf("%s.providers[%d].args: got %q, want what can be printed", key, i, a)
			}
		}
	}
	return nil
}

// credentialConfig returns the kubelet's CredentialProviderConfig.
func credentialConfig(c *Config) ([]byte, error) {
	config := struct {
		APIVersion string               `json:"apiVersion"`
		Kind       string               `json:"kind"`
		Providers  []CredentialProvider `json:"providers"`
	}{APIVersion: "kubelet.config.k8s.io/v1", Kind: "CredentialProviderConfig"}
	for _, p := range c.Kubelet.CredentialProviders.Providers {
		p.APIVersion = "credentialprovider.kubelet.k8s.io/v1"
		config.Providers = append(config.Providers, p)
	}
	return yaml.Marshal(config)
}
